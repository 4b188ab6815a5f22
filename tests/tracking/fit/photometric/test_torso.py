"""The pose of a synthetic person's shoulders, from the tracked head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.geometry.rigid import move_points, rigid_about
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric.alignment import LEVELS, MATTE_LEVELS
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages, matte_frame
from partnerface_ns.tracking.fit.photometric.equations import CORRELATED_TEXTURE
from partnerface_ns.tracking.fit.photometric.template import Template
from partnerface_ns.tracking.fit.photometric.torso import TorsoAligner, has_shoulders

TIMESTEPS = torch.arange(0, 200, 8)
NUM, NUM_TRAIN = len(TIMESTEPS), 18


@pytest.fixture(scope="module")
def images(person):
    return [person.image(timestep) for timestep in TIMESTEPS.tolist()]


@pytest.fixture
def make_aligner(person, images, landmark_head, tmp_path):
    """Makes an aligner that knows the head's true track, from images and mattes."""

    def make(images=images, num_train=NUM_TRAIN) -> TorsoAligner:
        track, size, focal = person.performance.track[TIMESTEPS], person.camera.width, person.camera.fl_x
        shift = torch.from_numpy(np.linalg.inv(person.camera.T_world_camera)[:3, 3]).float()
        observations = Observations(
            size=size,
            landmarks=torch.zeros(NUM, 478, 3),
            outline=torch.full((NUM, 1, 4), torch.nan),
            principal=torch.full((NUM, 2), size / 2),
            times=torch.arange(NUM) * 0.3,
            focal=focal,
        )
        identity = torch.cat([person.identity, torch.zeros(landmark_head.displacements.shape[-1])])
        fit = Fit(identity, replace(track, translation=track.translation + shift), focal, torch.zeros(478, 3))
        details = DetailImages(tmp_path / "details.npy", images.__getitem__, NUM, size, LEVELS)
        mattes = DetailImages(tmp_path / "mattes.npy", lambda i: matte_frame(images[i][1]), NUM, size, MATTE_LEVELS)
        return TorsoAligner(landmark_head, observations, fit, num_train, details, mattes)

    return make


def improve(aligner: TorsoAligner) -> None:
    for level in range(len(LEVELS)):
        for _ in range(2):
            aligner.renew(level)
            aligner.improve()
            aligner.improve()
    aligner.renew(len(LEVELS) - 1)


def motion_error(aligner: TorsoAligner, person) -> float:
    """Mean error of the visible points, parallel to the image and without the mean over time, metres."""
    track = aligner.result().track
    root, bust = aligner.root, aligner.points[: aligner.num_texture] + aligner.centre
    performance, steps = person.performance, TIMESTEPS.numpy()
    true = (torch.from_numpy(getattr(performance, f"torso_{name}")[steps]) for name in ("rotation", "translation"))
    poses = (track.torso[:, :3], track.torso[:, 3:]), tuple(value.float() for value in true)
    ours, theirs = (torch.stack([move_points(T, bust) for T in rigid_about(root, *pose)]) for pose in poses)
    difference = ours - theirs
    return float((difference - difference.mean(0))[..., :2].norm(dim=-1)[aligner.texture.weights > 0.5].mean())


def test_the_shoulders_follow_the_images(make_aligner, person):
    aligner = make_aligner()
    aligner.renew(2)
    before, residual = motion_error(aligner, person), aligner.residuals().mean()
    improve(aligner)
    after = motion_error(aligner, person)
    # The shirt has level stripes, and its outline hardly changes in a turn about the vertical axis.
    assert before > 0.004 and after < 0.6 * before, (before, after)
    assert aligner.residuals().mean() < 0.4 * residual


def test_without_texture_and_outline_the_track_only_becomes_steadier(make_aligner):
    blank = [(np.full((256, 256, 3), 90, np.uint8), np.full((256, 256), 255, np.uint8))] * NUM
    aligner = make_aligner(blank)
    improve(aligner)
    track = aligner.result().track
    assert (track.torso[:, 3:] - track.translation).norm(dim=-1).max() < 0.02
    before, after = (torch.diff(values, 2, 0).norm(dim=-1).mean() for values in (track.translation, track.torso[:, 3:]))
    assert after < before


class Ramp:
    """Detail images whose value grows evenly in one direction of the image."""

    slope = torch.tensor([0.7, -0.4])

    def sample(self, level: int, part: slice, pixels: torch.Tensor) -> torch.Tensor:
        return pixels @ self.slope

    def sample_with_slope(self, level: int, part: slice, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.sample(level, part, pixels), self.slope.expand_as(pixels)


def test_the_gradient_is_that_of_the_energy(make_aligner):
    aligner, part, step = make_aligner(), slice(0, 4), 1e-3
    aligner.details = aligner.mattes = Ramp()
    aligner.renew(0)
    # Templates that every frame misses by much less than the noise, so that no point is an outlier.
    for name in ("texture", "outline"):
        term = getattr(aligner, name)
        template = Template(term.template.values + 1, torch.ones_like(term.template.known), noise=1e3)
        setattr(aligner, name, replace(term, weights=torch.ones_like(term.weights), template=template))

    def energy(axis: int, change: float) -> torch.Tensor:
        aligner.values = torch.zeros(NUM, 6)
        aligner.values[:, axis] = change
        pixels = aligner.observations[part].project(aligner._pose(part)[0], aligner.fit.focal)
        expected = torch.cat([aligner.texture.template.values, aligner.outline.template.values])
        difference = (Ramp().sample(0, part, pixels) - expected).double()
        return 0.5 * difference.square().sum(1) / 1e6 / CORRELATED_TEXTURE

    gradient = aligner._equations(part).gradient.double()
    numeric = torch.stack([(energy(axis, step) - energy(axis, -step)) / (2 * step) for axis in range(6)], -1)
    torch.testing.assert_close(gradient, numeric, rtol=0.01, atol=1e-3 * float(numeric.abs().max()))


def test_only_training_frames_form_the_template(make_aligner, images):
    def template(changed: int) -> torch.Tensor:
        changed_images = list(images)
        if changed >= 0:
            changed_images[changed] = (np.roll(images[changed][0], 8, 0), images[changed][1])
        aligner = make_aligner(changed_images)
        aligner.renew(2)
        return aligner.texture.template.values

    reference = template(-1)
    assert torch.equal(template(NUM_TRAIN), reference)
    assert not torch.equal(template(NUM_TRAIN - 1), reference)


def test_a_head_model_whose_root_moves_nothing_alone_has_no_shoulders(model):
    assert has_shoulders(model)
    on_neck = model.skinning_weights.clone()
    on_neck[:, 1] += on_neck[:, 0]
    on_neck[:, 0] = 0
    assert not has_shoulders(replace(model, skinning_weights=on_neck))
