"""Where the 478 face landmarks lie on a head model: found by looking at images of it.

The head is drawn from several directions with a slightly open mouth, the landmark detector looks at each image, and
every landmark is traced back to the surface point under it. The point whose place is nearest to the median over the
views is kept, with the spread of the views as its uncertainty. Irises are not detected but constructed: where the
axes through the centre of the eyeball leave it. For the open head `scripts/build_landmarks.py` does this with images
of many synthetic people, and the result is stored with the package; for other heads it is done with plain images at
first use, and kept in the user's cache folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import EYES, Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rasterizer import Visible, project, rasterize
from partnerface_ns.tracking.landmarks import IRIS_LEFT, IRIS_RIGHT, NUM_LANDMARKS, LandmarkDetector

_SIZE = 384
"""Pixels of a view's side."""
_DISTANCE, _FOCAL = 0.9, 2.3
"""Metres from the head, and focal length in image sides: the head fills three quarters of the view."""
_YAWS, _PITCHES = (-24.0, -16.0, -8.0, 0.0, 8.0, 16.0, 24.0), (-12.0, 0.0, 12.0)
"""Degrees. Beyond them the detector's landmarks slide over the surface."""
_JAW_OPEN = 0.18
"""Radians: lips apart, so that upper and lower lip are told apart."""
_MIN_VIEWS = 6
_IRIS_ANGLE = 0.48
"""Radians between the eye's axis and its iris's rim: 5.6 mm on an eyeball of 12 mm."""
_IRIS_RIM = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Directions of the four rim landmarks in the subject's (left, up), in the detector's order."""


class NoFaceError(InputError):
    """The detector does not recognise a head model as a face."""


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Landmarks as weighted triples of vertices."""

    vertices: Int[np.ndarray, "landmarks 3"]
    weights: Float[np.ndarray, "landmarks 3"]
    """Sum to one."""
    spread: Float[np.ndarray, "landmarks"]
    """Median distance in metres of single views from the chosen place."""

    def points(self, values: Float[np.ndarray, "verts *channels"]) -> Float[np.ndarray, "landmarks *channels"]:
        """Values given at vertices, at the landmarks."""
        return np.einsum("lk,lk...->l...", self.weights, values[self.vertices])


def landmark_embedding(model: HeadModel) -> LandmarkEmbedding:
    """The landmarks of a head model: from the package, else from the cache, else made now (seconds).

    Raises:
        NoFaceError: no face can be recognised in images of this head model.
    """
    stored = files("partnerface_ns.tracking") / "assets" / f"landmarks_{model.fingerprint}.npz"
    if stored.is_file():
        return _read(Path(str(stored)))
    cached = _cache_folder() / f"landmarks_{model.fingerprint}.npz"
    if not cached.is_file():
        write_embedding(embed_landmarks(model), cached)
    return _read(cached)


def write_embedding(embedding: LandmarkEmbedding, path: Path) -> None:
    """Store an embedding; the file appears only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        np.savez_compressed(
            partial,
            vertices=embedding.vertices.astype(np.int32),
            weights=embedding.weights.astype(np.float32),
            spread=embedding.spread.astype(np.float32),
        )


def _read(path: Path) -> LandmarkEmbedding:
    with np.load(path, allow_pickle=False) as archive:
        return LandmarkEmbedding(
            archive["vertices"].astype(np.int64), archive["weights"].astype(np.float64), archive["spread"]
        )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "partnerface"


def embed_landmarks(model: HeadModel) -> LandmarkEmbedding:
    """Find the landmarks on a head model from images of it.

    Raises:
        NoFaceError: the detector recognises a face in too few of the images.
    """
    skin, verts = skin_faces(model), _open_mouth(model)
    views = []
    with LandmarkDetector(follow=False, mirrored=False) as detect:
        for image, visible in draw_views(model):
            found = detect(image)
            if found is not None:
                views.append(trace_landmarks(found[0][:, :2], visible, _SIZE, skin, verts))
    if len(views) < _MIN_VIEWS:
        raise NoFaceError(
            model.name,
            "no face is recognised in images of this head model",
            expected=f"{_MIN_VIEWS} of {len(_YAWS) * len(_PITCHES)} views",
            found=len(views),
        )
    return with_irises(model, most_central(views))


def draw_views(model: HeadModel) -> Iterator[tuple[np.ndarray, Visible]]:
    """Images of the head with a slightly open mouth from all directions looked from, and what each pixel sees."""
    verts, albedo = _open_mouth(model), _albedo(model)
    for yaw in _YAWS:
        for pitch in _PITCHES:
            yield render_head(verts, model.faces.numpy(), albedo, _view(verts, yaw, pitch))


def _open_mouth(model: HeadModel) -> np.ndarray:
    state = HeadState.neutral(model.num_expr)
    jaw = torch.tensor([_JAW_OPEN, 0.0, 0.0])
    state = HeadState(state.expression, state.rotation, state.neck, jaw, state.eyes, state.translation)
    shaped = ShapedHead.of(model, torch.zeros(model.num_identity))
    return shaped.pose(state).verts.numpy().astype(np.float64)


def _view(verts: np.ndarray, yaw: float, pitch: float) -> Camera:
    """A camera around the head that looks at the middle between crown and chin."""
    a, b = np.radians(yaw), np.radians(pitch)
    turn_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    T = np.eye(4)
    T[:3, :3] = turn_y @ turn_x
    target = np.array([0.0, verts[:, 1].max() - 0.12, 0.0])
    T[:3, 3] = target + T[:3, 2] * _DISTANCE
    return Camera(T, _FOCAL * _SIZE, _FOCAL * _SIZE, _SIZE / 2, _SIZE / 2, _SIZE, _SIZE)


def render_head(
    verts: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    albedo: Float[np.ndarray, "verts 3"],
    camera: Camera,
) -> tuple[np.ndarray, Visible]:
    """A plainly shaded image (rows, columns, 3) uint8 of a head, and what each pixel sees."""
    screen, nearness = project(verts, camera.intrinsics, camera.T_world_camera)
    visible = rasterize(screen, nearness, faces, camera.width, camera.height)
    normals = vertex_normals(torch.from_numpy(verts), torch.from_numpy(faces)).numpy()
    light = camera.T_world_camera[:3, :3] @ np.array([0.3, 0.5, 0.8])
    shade = 0.45 + 0.55 * np.clip(normals @ light / np.linalg.norm(light), 0, 1)
    image = np.full((camera.height * camera.width, 3), 0.75)
    image[visible.samples] = visible.interpolate(albedo * shade[:, None])
    return (image.reshape(camera.height, camera.width, 3) * 255).astype(np.uint8), visible


def _albedo(model: HeadModel) -> np.ndarray:
    """Skin, red lips, dark brows and hair, white eyes with a dark iris: what the detector looks for."""
    verts = model.template.numpy().astype(np.float64)
    region = {name: mask.numpy()[:, None] for name, mask in model.regions.items()}
    colour = np.full((len(verts), 3), (0.86, 0.66, 0.55))
    colour = colour * (1 - region["lips"]) + region["lips"] * (0.65, 0.28, 0.28)
    joints = model.joint_regressor.numpy() @ verts
    dark = (verts[:, 1] > joints[Joint.EYE_LEFT, 1] + 0.055) | (verts[:, 2] < joints[Joint.JAW, 2] - 0.03)
    colour[dark & (region["head"][:, 0] > 0.5) & (region["ears"][:, 0] < 0.5)] = (0.2, 0.15, 0.1)
    for eye in joints[EYES]:
        offset = verts - eye
        brow = (np.abs(offset[:, 1] - 0.024) < 0.004) & (np.abs(offset[:, 0]) < 0.02) & (offset[:, 2] > -0.01)
        colour[brow] = (0.25, 0.18, 0.12)
    colour = colour * (1 - region["inside_mouth"]) + region["inside_mouth"] * (0.3, 0.08, 0.08)
    for index, eye in zip((Joint.EYE_LEFT, Joint.EYE_RIGHT), joints[EYES], strict=True):
        ball = model.skinning_weights[:, index].numpy() > 0.5
        axis = (verts - eye)[:, 2] / np.linalg.norm(verts - eye, axis=-1)
        colour[ball] = np.where(axis[ball, None] > np.cos(_IRIS_ANGLE), (0.12, 0.08, 0.05), (0.92, 0.92, 0.92))
    return colour


def skin_faces(model: HeadModel) -> np.ndarray:
    """Faces that landmarks may lie on: neither eyeballs nor the inside of the mouth."""
    other = (model.skinning_weights[:, EYES].sum(-1) > 0.5) | (model.regions["inside_mouth"] > 0.5)
    return ~other.numpy()[model.faces.numpy()].any(-1)


@dataclass(frozen=True)
class TracedView:
    """Surface points seen under the landmarks of one image."""

    vertices: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    missed: np.ndarray
    """Distance in pixels between landmark and the nearest pixel that shows skin."""


def trace_landmarks(
    pixels: Float[np.ndarray, "landmarks 2"],
    visible: Visible,
    width: int,
    skin: Bool[np.ndarray, "faces"],
    rest: Float[np.ndarray, "verts 3"],
) -> TracedView:
    """Surface points under the landmarks of one image.

    Args:
        pixels: of the landmarks.
        visible: what each pixel of the image sees.
        width: of the image.
        skin: faces that landmarks may lie on.
        rest: vertices in which the views' points are compared.
    """
    from scipy.spatial import cKDTree

    allowed = np.flatnonzero(skin[visible.triangles])
    row, column = np.divmod(visible.samples[allowed], width)
    distance, nearest = cKDTree(np.stack([column + 0.5, row + 0.5], -1)).query(pixels)
    chosen = allowed[nearest]
    vertices, weights = visible.corners[chosen], visible.weights[chosen].astype(np.float64)
    return TracedView(vertices, weights, np.einsum("lk,lkc->lc", weights, rest[vertices]), distance)


def most_central(views: list[TracedView]) -> LandmarkEmbedding:
    """For each landmark the point nearest to the median over the views."""
    points = np.stack([v.points for v in views])
    missed = np.stack([v.missed for v in views])
    distance = np.linalg.norm(points - np.median(points, 0), axis=-1)
    best = (distance + 1e-3 * missed).argmin(0)
    landmarks = np.arange(NUM_LANDMARKS)
    return LandmarkEmbedding(
        np.stack([v.vertices for v in views])[best, landmarks],
        np.stack([v.weights for v in views])[best, landmarks],
        np.median(distance, 0),
    )


def with_irises(model: HeadModel, embedding: LandmarkEmbedding) -> LandmarkEmbedding:
    """The embedding with constructed irises."""
    vertices, weights, spread = embedding.vertices.copy(), embedding.weights.copy(), embedding.spread.copy()
    rim = [(np.sin(_IRIS_ANGLE) * a, np.sin(_IRIS_ANGLE) * b, np.cos(_IRIS_ANGLE)) for a, b in _IRIS_RIM]
    for joint, part in ((Joint.EYE_LEFT, IRIS_LEFT), (Joint.EYE_RIGHT, IRIS_RIGHT)):
        vertices[part], weights[part] = _leave_eyeball(model, joint, np.array([(0.0, 0.0, 1.0), *rim]))
        spread[part] = 0.0005
    return LandmarkEmbedding(vertices, weights, spread)


def _leave_eyeball(model: HeadModel, joint: int, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertex triples and weights where rays from an eyeball's centre leave it."""
    verts = model.template.numpy().astype(np.float64)
    centre = model.joint_regressor[joint].numpy() @ verts
    ball = model.skinning_weights[:, joint].numpy() > 0.5
    faces = model.faces.numpy()
    faces = faces[ball[faces].all(-1)]
    inverse = np.linalg.inv((verts[faces] - centre).transpose(0, 2, 1) + 1e-12 * np.eye(3))
    weights = np.einsum("fab,db->dfa", inverse, directions)
    weights /= weights.sum(-1, keepdims=True) + 1e-12
    ahead = np.einsum("dfk,fkc,dc->df", weights, verts[faces] - centre, directions)
    chosen = np.where(ahead > 0, weights.min(-1), -np.inf).argmax(-1)
    return faces[chosen], weights[np.arange(len(directions)), chosen]
