"""Makes the landmark files that ship with the package: where the 478 landmarks lie on the open head, and their mirror.

Synthetic people of many identities are looked at from many directions, with lips apart and without glasses; each
landmark is traced back to the surface under it. Run it again when the open head changes (a quarter of an hour):
`python scripts/build_landmarks.py`. It needs the `track` extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from scipy.optimize import linear_sum_assignment

from partnerface_ns.demo.subject import DemoSubject
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rasterizer import Visible, project, rasterize
from partnerface_ns.tracking.fit.head_views import draw_views
from partnerface_ns.tracking.fit.landmark_tracing import construct_irises, most_central, skin_faces, trace_landmarks
from partnerface_ns.tracking.video import landmark_embedding
from partnerface_ns.tracking.video.face_topology import NUM_LANDMARKS
from partnerface_ns.tracking.video.landmarks import FaceMeshDetector

ASSETS = Path(landmark_embedding.__file__).parent / "assets"
PEOPLE, VIEWS, SIZE = 14, 8, 384
FIRST_SEED = 1000
"""Far from the seeds that people choose for a demo, so that a track of one is no track of these."""
YAW, PITCH, JAW = 0.42, 0.22, (0.08, 0.22)
"""Radians: largest turns, and range of the open mouth."""


def images_of(seed: int) -> Iterator[tuple[np.ndarray, Visible]]:
    """Images of one person and what each pixel sees of their head."""
    rng = np.random.default_rng(seed)
    subject = DemoSubject.create(seed, 10 * VIEWS, SIZE)
    neutral = HeadState.neutral(subject.head.model.num_expr, (VIEWS,))
    turns = rng.uniform((-PITCH, -YAW, -0.1), (PITCH, YAW, 0.1), (VIEWS, 3))
    jaws = np.stack([rng.uniform(*JAW, VIEWS), np.zeros(VIEWS), np.zeros(VIEWS)], -1)
    states = replace(neutral, neck=torch.from_numpy(turns).float(), jaw=torch.from_numpy(jaws).float())
    subject = replace(subject, performance=replace(subject.performance, track=states))
    faces, camera = subject.head.model.faces.numpy(), subject.camera
    # Shrunk to a point inside the skull.
    away = np.diag([0.0, 0.0, 0.0, 1.0])
    for view in range(VIEWS):
        pose = replace(subject.pose(view), T_skull_glasses=away)
        screen, nearness = project(pose.skin, camera.intrinsics, camera.T_world_camera)
        image = subject.scene.image(pose, camera)[0]
        yield image, rasterize(screen, nearness, faces, SIZE, SIZE)


def mirror_of(model: HeadModel) -> np.ndarray:
    """For each landmark the one on the other side: where it is found in mirrored images."""
    distance = np.zeros((NUM_LANDMARKS, NUM_LANDMARKS))
    detector = FaceMeshDetector(follow=False, mirrored=False)
    for image, _ in draw_views(model):
        original, mirrored = detector(image), detector(np.ascontiguousarray(image[:, ::-1]))
        if original is not None and mirrored is not None:
            flipped = mirrored.points * (-1, 1, 1) + (image.shape[1], 0, 0)
            distance += np.linalg.norm(original.points[:, None] - flipped[None], axis=-1)
    first, second = linear_sum_assignment(distance)
    mirror = np.empty(len(distance), dtype=np.int16)
    mirror[first] = second
    if (mirror[mirror] != np.arange(len(mirror))).any():
        raise SystemExit("the landmarks are not symmetric enough to be paired")
    return mirror


def main() -> None:
    model = load_open_head()
    np.savez(ASSETS / "landmark_mirror.npz", mirror=mirror_of(model))
    skin, rest = skin_faces(model), model.template.numpy().astype(np.float64)
    views = []
    detector = FaceMeshDetector(follow=False)
    for seed in track(range(FIRST_SEED, FIRST_SEED + PEOPLE), "Looking at people"):
        for image, visible in images_of(seed):
            detected = detector(image)
            if detected is not None:
                views.append(trace_landmarks(detected.points[:, :2], visible, SIZE, skin, rest))
    embedding = construct_irises(model, most_central(views))
    for old in ASSETS.glob("landmarks_*.npz"):
        old.unlink()
    landmark_embedding.write_embedding(embedding, ASSETS / f"landmarks_{model.fingerprint}.npz")


if __name__ == "__main__":
    main()
