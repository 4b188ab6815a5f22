"""The photometric fit of a synthetic person whose head states are known, from a disturbed track."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric import alignment
from partnerface_ns.tracking.fit.photometric.aligner import Aligner
from partnerface_ns.tracking.fit.photometric.alignment import LEVELS, Alignment, align_images, num_steps
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages, Level
from partnerface_ns.tracking.fit.problem import explained_directions
from partnerface_ns.tracking.fit.tracked import TrackedVideo
from partnerface_ns.tracking.video.outline import matte_outline

NUM = 20
COVERED = 16
"""This frame has a plain patch in front of the face."""


@dataclass(frozen=True)
class Case:
    """A disturbed track and the truth."""

    truth: HeadState
    disturbed: HeadState
    verts: torch.Tensor
    observations: Observations
    fit: Fit
    images: list


@pytest.fixture(scope="module")
def case(person, images, model, landmark_head) -> Case:
    T_camera_world = torch.from_numpy(np.linalg.inv(person.camera.T_world_camera)).float()
    torch.testing.assert_close(T_camera_world[:3, :3], torch.eye(3), atol=1e-5, rtol=0)
    track, size, focal = person.performance.track[:NUM], person.camera.width, person.camera.fl_x
    truth = replace(track, translation=track.translation + T_camera_world[:3, 3])
    verts = person.head.pose(truth).verts
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    observations = Observations(
        size=size,
        landmarks=torch.zeros(NUM, 478, 3),
        outline=torch.from_numpy(np.stack([matte_outline(share) for _, share in images])),
        principal=torch.full((NUM, 2), size / 2),
        times=torch.arange(NUM) / 25,
        focal=focal,
    )
    embedding = landmark_embedding(model)
    points = torch.from_numpy(np.stack([embedding.points(v) for v in verts.numpy().astype(np.float64)])).float()
    # The detector errs by half a pixel of 256 in each frame, all landmarks alike, which no fit to landmarks corrects.
    observations.landmarks[..., :2] = observations.project(points, focal) + 0.5 * noise(NUM, 1, 2)
    disturbed = replace(truth, neck=truth.neck + 0.015 * noise(NUM, 3), translation=truth.translation + 1e-3)
    fit = Fit(
        torch.cat([person.identity, torch.zeros(landmark_head.displacements.shape[-1])]),
        disturbed,
        focal,
        torch.zeros(478, 3),
    )
    frames = [(rgb.copy(), np.round(255 * share).astype(np.uint8)) for rgb, share in images]
    rows, columns = slice(size // 4, 3 * size // 4), slice(size // 4, 3 * size // 4)
    frames[COVERED][0][rows, columns] = np.random.default_rng(0).integers(0, 255, (size // 2, size // 2, 1))
    return Case(truth, disturbed, verts, observations, fit, frames)


def align(case: Case, head, model, folder, steps: list) -> Alignment:
    spread = landmark_embedding(model).spread
    count = lambda: steps.append(1)  # noqa: E731
    num_train = math.ceil(0.7 * NUM)
    return align_images(head, case.observations, case.fit, spread, num_train, case.images.__getitem__, folder, count)


@pytest.fixture(scope="module")
def aligned(case, head, model, tmp_path_factory) -> Alignment:
    folder, steps = tmp_path_factory.mktemp("details"), []
    result = align(case, head, model, folder, steps)
    assert len(steps) == num_steps(model) and not list(folder.iterdir())
    return result


def skull(state: HeadState) -> Rotation:
    return Rotation.from_rotvec(state.rotation.numpy()) * Rotation.from_rotvec(state.neck.numpy())


def test_it_corrects_the_disturbed_head(case, aligned, head, model):
    def error(fit: Fit, static_offset: torch.Tensor) -> float:
        """Mean error of the face, pixels at 512, without the covered frame."""
        shaped = ShapedHead.of(model, fit.identity[: model.num_identity], static_offset)
        observed = case.observations
        true, ours = (observed.project(v, fit.focal) for v in (case.verts, shaped.pose(fit.track).verts))
        kept = [frame for frame in range(NUM) if frame != COVERED]
        return float((ours - true).norm(dim=-1)[kept][:, model.regions["face"] > 0.5].mean()) / observed.px

    before = error(case.fit, torch.zeros_like(model.template))
    after = error(aligned.fit, head.static_offset(aligned.fit.identity))
    assert before > 3 and after < 0.35 * before, (before, after)
    turns = [np.median((skull(fit.track) * skull(case.truth).inv()).magnitude()) for fit in (case.fit, aligned.fit)]
    assert turns[1] < 0.7 * turns[0], np.degrees(turns)


def test_residuals_fall_and_the_covered_frame_stands_out(aligned):
    residuals = aligned.residuals
    kept = [frame for frame in range(NUM) if frame != COVERED]
    assert residuals.after[kept].mean() < 0.8 * residuals.before[kept].mean()
    assert residuals.covered[COVERED] > 0.5 > residuals.covered[kept].max()


def test_only_training_frames_form_the_template(case, head, model, tmp_path):
    num_train, spread, level = math.ceil(0.7 * NUM), landmark_embedding(model).spread, Level(1.0, 6.0)

    def template(changed: int) -> torch.Tensor:
        def read(frame: int) -> tuple[np.ndarray, np.ndarray]:
            rgb, matte = case.images[frame]
            return (np.roll(rgb, 8, 0) if frame == changed else rgb), matte

        details = DetailImages(tmp_path / "details.npy", read, NUM, case.observations.size, (level,))
        aligner = Aligner(head, case.observations, case.fit, spread, num_train, details)
        aligner.renew(0)
        return aligner.template.values

    reference = template(-1)
    assert torch.equal(template(num_train), reference)
    assert not torch.equal(template(num_train - 1), reference)


def test_offsets_of_the_persons_landmarks_are_estimated_again(case, head, model, tmp_path):
    spread = landmark_embedding(model).spread
    offset = 0.002 * torch.randn(478, 3, generator=torch.Generator().manual_seed(1))
    identity = torch.nn.functional.pad(case.fit.identity, (0, head.model.num_identity - len(case.fit.identity)))
    true = replace(case.fit, identity=identity, track=case.truth, landmark_bias=offset)
    observed = replace(case.observations, landmarks=case.observations.landmarks.clone())
    observed.landmarks[..., :2] = TrackedVideo(np.arange(NUM), head, observed, true).landmarks()
    start = replace(true, landmark_bias=torch.zeros(478, 3))
    details = DetailImages(tmp_path / "details.npy", case.images.__getitem__, NUM, observed.size, (Level(1.0, 6.0),))
    aligner = Aligner(head, observed, start, spread, NUM, details)
    for _ in range(3):
        aligner.improve_bias()
    found = aligner.result()
    before, after = (TrackedVideo(np.arange(NUM), head, observed, f).landmark_errors().median() for f in (start, found))
    assert after < 0.85 * before, (before, after)
    assert torch.equal(found.track.neck, start.track.neck)
    flat = found.landmark_bias.flatten()
    explained = explained_directions(head)
    assert (explained.mT @ flat).norm() < 1e-3 * flat.norm(), "identity and position are no offsets"


def test_the_relief_moves_the_outline_points_of_training_frames_to_the_outline(case, head, model, tmp_path):
    num_train, spread = math.ceil(0.7 * NUM), landmark_embedding(model).spread
    details = DetailImages(tmp_path / "details.npy", case.images.__getitem__, NUM, case.observations.size, LEVELS[:1])

    def aligner(outline: torch.Tensor, steps: int = 2) -> Aligner:
        result = Aligner(head, replace(case.observations, outline=outline), case.fit, spread, num_train, details)
        result.renew(0)
        for _ in range(steps):
            result.improve_relief()
        return result

    outline = case.observations.outline
    locks = outline.clone()
    locks[..., :2] += 3 * case.observations.px * outline[..., 2:]  # hair stands out by 3 pixels of 512
    start, plain, with_locks = aligner(outline, steps=0), aligner(outline), aligner(locks)
    pixel = float(-case.fit.track.translation[:, 2].median()) / case.fit.focal
    seen = (plain.relief != 0) & (with_locks.relief != 0)
    outward = (with_locks.relief - plain.relief)[seen].median() / pixel / case.observations.px
    assert 2 < outward < 4, outward
    points = plain.points.outline
    moved = (plain.shaped.verts_rest - start.shaped.verts_rest)[points]
    expected = plain.relief[:, None] * plain.points.normals[points]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
    assert torch.equal(plain.coefficients, start.coefficients)
    assert torch.equal(plain.result().landmark_bias, case.fit.landmark_bias), "the relief is no part of the result"

    test_only = outline.clone()
    test_only[num_train:] = locks[num_train:]
    torch.testing.assert_close(aligner(test_only).relief, plain.relief)
    unseen = torch.ones(head.num_outline, dtype=torch.bool)
    unseen[plain.matches.indices[:num_train][plain.matches.valid[:num_train]]] = False
    assert unseen.any() and not plain.relief[unseen].any()


def test_without_an_outline_there_is_no_relief(case, head, model, tmp_path):
    spread, nothing = landmark_embedding(model).spread, torch.full((NUM, 1, 4), torch.nan)
    details = DetailImages(tmp_path / "details.npy", case.images.__getitem__, NUM, case.observations.size, LEVELS[:1])
    aligner = Aligner(head, replace(case.observations, outline=nothing), case.fit, spread, NUM, details)
    aligner.renew(0)
    aligner.improve_relief()
    aligner.improve_frames()
    assert not aligner.relief.any() and aligner.states.neck.isfinite().all()


def test_a_head_model_without_shoulders_is_aligned_without_them(case, head, model, tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "has_shoulders", lambda _: False)
    monkeypatch.setattr(alignment, "LEVELS", LEVELS[:1])
    steps: list = []
    result = align(case, head, model, tmp_path, steps)
    assert result.fit.track.torso is None and len(steps) == num_steps(model)
    assert result.residuals.torso_before.isnan().all() and result.residuals.torso_after.isnan().all()
    assert result.residuals.after.isfinite().all() and not list(tmp_path.iterdir())
