"""The mesh over an image, and the preview film."""

from __future__ import annotations

import av
import numpy as np
import pytest

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.tracking.report.preview import draw_mesh, write_film


@pytest.fixture
def square() -> tuple[np.ndarray, np.ndarray, Camera]:
    """A square of 0.2 m that faces a camera one metre away: 40 pixels."""
    verts = np.array([[-0.1, -0.1, -1], [0.1, -0.1, -1], [0.1, 0.1, -1], [-0.1, 0.1, -1]])
    return verts, np.array([[0, 1, 2], [0, 2, 3]]), Camera(np.eye(4), 200.0, 200.0, 50.0, 40.0, 100, 80)


def test_mesh_and_outline_are_drawn_at_the_projected_position(square):
    verts, faces, camera = square
    grey = np.full((80, 100, 3), 100, dtype=np.uint8)
    image, outline = draw_mesh(grey, verts, faces, camera, np.zeros(4))
    changed = (image != grey).any(-1)
    assert changed[21:59, 31:69].all() and changed.sum() == 40 * 40
    assert outline[:, 0].min() == 30.5 and outline[:, 0].max() == 69.5
    assert outline[:, 1].min() == 20.5 and outline[:, 1].max() == 59.5
    assert len(outline) == 4 * 39


def test_the_outline_excludes_the_cut_of_the_mesh(square):
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
