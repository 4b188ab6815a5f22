"""Figures, warnings, and the drawing that they come from."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.tracking.report.chart import draw_quality
from partnerface_ns.tracking.report.footage import Footage, footage_warnings, left_out_warnings, name_frames
from partnerface_ns.tracking.report.preview import draw_mesh, write_film
from partnerface_ns.tracking.report.quality import TrackErrors, measure_jitter, outline_distance, quality_figures
from partnerface_ns.tracking.video.left_out import COVERED, OTHER_PERSON

GOOD = Footage(
    num_frames=900,
    yaw=np.linspace(-40, 40, 900),
    tilt=np.linspace(-20, 20, 900),
    jaw=np.linspace(0, 25, 900),
    face_height=300.0,
    burnt=0.01,
    brightness=130.0,
    num_others=0,
    head_cut=0.02,
)


def test_figures():
    landmarks = torch.full((10, 478), 2.0)
    landmarks[:, 468:] = 5.0
    silhouette = torch.tensor([1.0, 3.0] + [float("nan")] * 8)
    values = quality_figures(TrackErrors(landmarks, silhouette, 0.25))
    assert values["landmark_px_median"] == 2 and values["iris_px_median"] == 5
    assert values["landmark_px_mean"] == pytest.approx((468 * 2 + 10 * 5) / 478, abs=1e-3)
    assert values["silhouette_px_mean"] == 2 and values["jitter_px"] == 0.25


def test_a_silhouette_that_was_not_measured_is_null():
    errors = TrackErrors(torch.ones(8, 478), torch.full((8,), float("nan")), 0.1)
    assert quality_figures(errors)["silhouette_px_mean"] is None


def test_jitter_is_the_size_of_independent_errors_and_knows_motion():
    rng = torch.Generator().manual_seed(0)
    still = 0.4 * torch.randn(200, 100, 2, generator=rng)
    assert measure_jitter(still) == pytest.approx(0.4 * 2**0.5, rel=0.1)
    moving = torch.arange(200.0)[:, None, None].expand(200, 100, 2) * 2
    assert measure_jitter(moving) < 1e-4
    assert measure_jitter(still[:3]) == 0


def test_outline_distance():
    line = np.stack([np.arange(0, 100.0), np.zeros(100)], -1)
    assert outline_distance(line + np.array([0, 3]), line) == pytest.approx(3)
    assert np.isnan(outline_distance(line[:0], line)) and np.isnan(outline_distance(line, line[:0]))


def test_good_footage_has_no_warning():
    assert footage_warnings(GOOD) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_frames": 100}, "Only 100 frames"),
        ({"yaw": np.linspace(-3, 30, 900)}, "turns 2 degrees to the right and 29 to the left"),
        ({"tilt": np.full(900, -88.0)}, "tilted by -88 degrees"),
        ({"jaw": np.linspace(0, 3, 900)}, "mouth opens 2.9 degrees"),
        ({"face_height": 80.0}, "face is 80 pixels high"),
        ({"burnt": 0.3}, "30% of the face is burnt out"),
        ({"brightness": 20.0}, "dark (brightness 20 of 255)"),
        ({"num_others": 2}, "2 other face(s)"),
        ({"head_cut": 0.3}, "head is cut off in 30% of the frames"),
    ],
)
def test_poor_footage_is_reported_with_its_figure(change, message):
    warnings = footage_warnings(replace(GOOD, **change))
    assert len(warnings) == 1 and message in warnings[0]


def test_frames_of_another_person_and_covered_faces_are_named():
    reasons = {
        **dict.fromkeys(range(34, 60), OTHER_PERSON),
        3: COVERED,
        7: COVERED,
        8: COVERED,
        9: COVERED,
        1: "blurred",
    }
    other, covered = left_out_warnings(reasons)
    assert "Another person is seen in frames 34 to 59;" in other
    assert "in front of the face in frames 3, 7 to 9;" in covered
    assert left_out_warnings({1: "blurred"}) == []


def test_many_runs_of_frames_are_not_all_named():
    assert name_frames([5]) == "frame 5"
    assert name_frames(range(0, 40, 2)) == "frames 0, 2, 4, 6, 8, 10, 12, 14 and 12 more places"


@pytest.fixture
def square() -> tuple[np.ndarray, np.ndarray, Camera]:
    """A square of 0.2 m that faces a camera one metre away: 40 pixels."""
    verts = np.array([[-0.1, -0.1, -1], [0.1, -0.1, -1], [0.1, 0.1, -1], [-0.1, 0.1, -1]])
    return verts, np.array([[0, 1, 2], [0, 2, 3]]), Camera(np.eye(4), 200.0, 200.0, 50.0, 40.0, 100, 80)


def test_mesh_and_its_outline_are_where_they_should_be(square):
    verts, faces, camera = square
    grey = np.full((80, 100, 3), 100, dtype=np.uint8)
    image, outline = draw_mesh(grey, verts, faces, camera, np.zeros(4))
    changed = (image != grey).any(-1)
    assert changed[21:59, 31:69].all() and changed.sum() == 40 * 40
    assert outline[:, 0].min() == 30.5 and outline[:, 0].max() == 69.5
    assert outline[:, 1].min() == 20.5 and outline[:, 1].max() == 59.5
    assert len(outline) == 4 * 39


def test_the_outline_leaves_out_where_the_mesh_is_cut(square):
    verts, faces, camera = square
    grey = np.full((80, 100, 3), 100, dtype=np.uint8)
    _, outline = draw_mesh(grey, verts, faces, camera, np.array([1.0, 1.0, 0.0, 0.0]))
    assert outline[:, 1].max() < 41


def test_the_film_file_is_complete(tmp_path):
    images = [np.full((33, 65, 3), 20 * i, dtype=np.uint8) for i in range(5)]
    write_film(images, tmp_path / "film.mp4", 25.0)
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (32, 64, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_that_fails_leaves_nothing(tmp_path):
    def images():
        yield np.zeros((32, 32, 3), dtype=np.uint8)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_film(images(), tmp_path / "film.mp4", 25.0)
    assert list(tmp_path.iterdir()) == []


def test_chart(tmp_path):
    errors = TrackErrors(torch.rand(20, 478), torch.rand(20), 0.1)
    draw_quality(errors, np.arange(20) / 25, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 5000 and len(list(tmp_path.iterdir())) == 1
