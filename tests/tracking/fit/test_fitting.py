"""The reduced head, and fits of a head whose state is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.fit.fit_head import FitHead, cut_mask, reduce_head
from partnerface_ns.tracking.fit.fitting import FitSchedule, fit_track
from partnerface_ns.tracking.fit.initial_guess import guess_unknowns, poses_from_landmarks
from partnerface_ns.tracking.fit.observations import Observations
from partnerface_ns.tracking.fit.problem import FitProblem
from partnerface_ns.tracking.video.landmark_embedding import LandmarkEmbedding

SIZE, FOCAL, NUM = 512, 1100.0, 24


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_open_head()


@pytest.fixture(scope="module")
def embedding(model: HeadModel) -> LandmarkEmbedding:
    return landmark_embedding(model)


@pytest.fixture(scope="module")
def head(model: HeadModel, embedding: LandmarkEmbedding) -> FitHead:
    return reduce_head(model, embedding)


@pytest.fixture(scope="module")
def identity(model: HeadModel) -> torch.Tensor:
    return 0.5 * torch.randn(model.num_identity, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def truth(model: HeadModel) -> HeadState:
    """A head that turns, nods, speaks, looks around and blinks."""
    t = torch.linspace(0, 1, NUM)
    wave = lambda rate, phase=0.0: torch.sin(6.2832 * rate * t + phase)  # noqa: E731
    zero = torch.zeros(NUM)
    expression = torch.zeros(NUM, model.num_expr)
    expression[:, model.expression_names.index("mouthSmileLeft")] = 0.3 + 0.3 * wave(1.0)
    for side in ("Left", "Right"):
        expression[10:13, model.expression_names.index(f"eyeBlink{side}")] = torch.tensor([0.5, 0.9, 0.4])
    look = torch.stack([0.1 * wave(1.5), 0.25 * wave(1.0), zero], -1)
    return HeadState(
        expression=expression,
        rotation=torch.stack([0.02 * wave(0.7), zero, zero], -1),
        neck=torch.stack([0.15 * wave(1.2), 0.35 * wave(0.8, 0.5), 0.05 * wave(1.0)], -1),
        jaw=torch.stack([0.12 + 0.10 * wave(2.0), zero, zero], -1),
        eyes=torch.cat([look, look], -1),
        translation=torch.stack([0.01 * wave(0.6), zero, -1.0 + 0.01 * wave(0.5)], -1),
    )


@pytest.fixture(scope="module")
def observations(model, embedding, identity, truth) -> Observations:
    """Its landmarks as a detector would see them, with noise; no outline."""
    verts = ShapedHead.of(model, identity).pose(truth).verts.numpy().astype(np.float64)
    points = np.stack([embedding.points(v) for v in verts])
    pixels = np.stack([points[..., 0], -points[..., 1]], -1) / -points[..., 2:] * FOCAL + SIZE / 2
    depth = (-points[..., 2:] - 1) * FOCAL
    noise = np.random.default_rng(0).normal(0, 0.3, pixels.shape)
    return Observations(
        size=SIZE,
        landmarks=torch.from_numpy(np.concatenate([pixels + noise, depth], -1)).float(),
        outline=torch.full((NUM, 4, 4), torch.nan),
        principal=torch.full((NUM, 2), SIZE / 2),
        times=torch.arange(NUM) / 25,
        focal=FOCAL,
    )


def test_the_reduced_head_equals_the_full_head(model, head, embedding, truth):
    """Outline points and joints exactly, landmarks up to blending inside a triangle; displacements are offsets."""
    coefficients = torch.cat([0.5 * torch.randn(model.num_identity), 0.004 * torch.randn(head.displacements.shape[-1])])
    state = truth[::6]
    small = ShapedHead.of(head.model, coefficients).pose(state)
    offset = head.static_offset(coefficients)
    full = ShapedHead.of(model, coefficients[: model.num_identity], offset).pose(state)
    outline = small.verts[:, head.num_landmarks : head.num_landmarks + head.num_outline]
    torch.testing.assert_close(outline, full.verts[:, head.outline_vertices], atol=2e-6, rtol=0)
    torch.testing.assert_close(small.T_world_rest, full.T_world_rest, atol=2e-6, rtol=0)
    landmarks = np.stack([embedding.points(v) for v in full.verts.numpy()])
    assert np.abs(small.verts[:, : head.num_landmarks].numpy() - landmarks).max() < 5e-4
    only = ShapedHead.of(head.landmark_model, coefficients).pose(state)
    torch.testing.assert_close(only.verts[:, : head.num_landmarks], small.verts[:, : head.num_landmarks])


def test_displacements_leave_face_and_ears_alone(model, head):
    strength = head.displacements.abs().sum((1, 2))
    for region in ("face", "ears", "eyeballs", "inside_mouth"):
        assert strength[model.regions[region] > 0.5].max() == 0, region
    crown = model.template[:, 1].argmax()
    assert strength[crown] > 0.5


def test_outline_points_are_away_from_the_cut_of_the_bust(model, head):
    cut = cut_mask(model)
    assert 0 < cut.mean() < 0.3 and cut[head.outline_vertices.numpy()].max() == 0


def test_pose_from_landmarks_is_exact_for_a_similarity(head, observations):
    rest = head.model.template[: head.num_landmarks]
    turn = Rotation.from_euler("yxz", [[30, 10, -5], [-40, 5, 8]], degrees=True).as_matrix()
    turn = torch.from_numpy(turn).float()
    points = torch.einsum("fab,lb->fla", turn, rest) * torch.tensor([900.0, 700.0])[:, None, None]
    points = points * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([250.0, 240.0, 0.0])
    frames = Observations(
        SIZE, points, observations.outline[:2], observations.principal[:2], observations.times[:2], FOCAL
    )
    pose = poses_from_landmarks(rest, frames)
    torch.testing.assert_close(pose.rotation, turn, atol=1e-4, rtol=0)
    torch.testing.assert_close(pose.scale, torch.tensor([900.0, 700.0]), rtol=1e-4, atol=0)


def test_the_initial_guess_projects_the_landmarks_to_their_detected_centre(head, observations):
    start = guess_unknowns(head, observations)
    verts = ShapedHead.of(head.landmark_model, start.coefficients).pose(start.states(FOCAL)).verts
    centre = observations.project(verts[:, : head.num_landmarks], FOCAL).mean(1)
    assert (centre - observations.landmarks[..., :2].mean(1)).norm(dim=-1).max() < 6


def test_the_prior_closes_a_mouth_that_is_nearly_closed_and_leaves_an_open_one(head, observations, embedding):
    problem = FitProblem(head, observations, embedding.spread)

    def pull(jaw: float) -> float:
        """Force of the prior on one frame's jaw towards the closed mouth, 1/rad."""
        problem.unknowns.jaw.data[:] = torch.tensor([jaw, 0.0, 0.0])
        return float(torch.autograd.grad(problem.prior_energy(), problem.unknowns.jaw)[0][NUM // 2, 0])

    assert pull(0.05) > 15
    assert 0 < pull(0.4) < 8


@pytest.fixture(scope="module")
def fit(head, observations, embedding):
    schedule = FitSchedule(key_frames=12, place=40, key=120, all=100, outline=1, key_gates=(), all_gates=(10.0,))
    count = []
    result = fit_track(head, observations, embedding.spread, lambda: count.append(1), schedule, fixed_focal=True)
    assert len(count) == schedule.total
    return result


def skull(state: HeadState) -> Rotation:
    return Rotation.from_rotvec(state.rotation.numpy()) * Rotation.from_rotvec(state.neck.numpy())


def test_the_fit_recovers_a_known_head(head, model, identity, truth, observations, fit):
    assert fit.focal == pytest.approx(FOCAL)
    difference = skull(fit.track) * skull(truth).inv()
    assert np.degrees(np.median(difference.magnitude())) < 3.0, "a constant nod trades with the shape of the face"
    assert np.degrees(np.median((difference.mean().inv() * difference).magnitude())) < 0.8
    jaw = np.degrees((fit.track.jaw - truth.jaw).norm(dim=-1))
    assert jaw.median() < 1.5
    gaze = np.degrees((fit.track.eyes[:, :2] - truth.eyes[:, :2]).norm(dim=-1))
    awake = torch.ones(NUM, dtype=torch.bool)
    awake[9:14] = False
    assert gaze[awake].median() < 3.0
    true = ShapedHead.of(model, identity).pose(truth).verts
    fitted = ShapedHead.of(model, fit.identity[: model.num_identity], head.static_offset(fit.identity))
    distance = (observations.project(true, FOCAL) - observations.project(fitted.pose(fit.track).verts, FOCAL)).norm(
        dim=-1
    )
    assert distance[:, model.regions["face"] > 0.5].median() < 1.0
    assert distance[:, model.regions["lips"] > 0.5].median() < 1.2


def test_blinks_and_speech_are_not_smoothed_away(model, truth, fit):
    blink = fit.track.expression[:, model.expression_names.index("eyeBlinkLeft")]
    assert blink[11] - blink[6] > 0.5 and blink[11] - blink[16] > 0.5
    opening = fit.track.jaw[:, 0]
    assert (opening.max() - opening.min()) > 0.7 * (truth.jaw[:, 0].max() - truth.jaw[:, 0].min())
