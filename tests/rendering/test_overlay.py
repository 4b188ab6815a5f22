"""The head over its image."""

from __future__ import annotations

import numpy as np

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.overlay import draw_mesh_overlay


def test_the_mesh_is_drawn_where_it_is_and_the_masks_border_in_red(tiny_head):
    T = np.eye(4)
    T[:3, 3] = [0, 0, 1]
    camera = Camera(T, 100.0, 100.0, 24.0, 16.0, 48, 32)
    rgb, mask = np.full((32, 48, 3), 250, np.uint8), np.zeros((32, 48), np.uint8)
    mask[8:24, 8:40] = 255
    verts, faces = tiny_head.template.numpy(), tiny_head.faces.numpy()
    image = draw_mesh_overlay(rgb, mask, verts, faces, camera, side=96)
    assert image.shape == (64, 96, 3)
    red_part, green_part, blue_part = image.astype(int).transpose(2, 0, 1)
    green = (green_part > red_part + 10) & (green_part > blue_part + 10)
    assert green[32, 48] and not green[:, :20].any()
    red = (image == [230, 40, 40]).all(-1)
    assert red[14:18, 40].any() and red[32, 14:18].any() and not red[32, 48] and red.sum() < 250
    assert (image[2, 2] == 250).all()


def test_nothing_is_drawn_of_a_head_behind_the_camera(tiny_head):
    camera = Camera(np.eye(4), 100.0, 100.0, 24.0, 16.0, 48, 32)
    rgb, mask = np.full((32, 48, 3), 250, np.uint8), np.full((32, 48), 255, np.uint8)
    for z in (0.0, 1.0):
        verts = tiny_head.template.numpy() + np.array([0, 0, z])
        image = draw_mesh_overlay(rgb, mask, verts.astype(np.float32), tiny_head.faces.numpy(), camera, side=48)
        assert (image == 250).all()


def test_a_wireframe_shows_the_edges_between_triangles_alone(tiny_head):
    T = np.eye(4)
    T[:3, 3] = [0, 0, 1]
    camera = Camera(T, 100.0, 100.0, 24.0, 12.0, 48, 24)
    rgb, mask = np.full((24, 48, 3), 250, np.uint8), np.zeros((24, 48), np.uint8)
    head = (tiny_head.template.numpy(), tiny_head.faces.numpy(), camera)
    solid = draw_mesh_overlay(rgb, mask, *head, side=1024, opacity=1.0)
    wires = draw_mesh_overlay(rgb, mask, *head, side=1024, opacity=1.0, wireframe=True)
    drawn, on_wires = (solid != 250).any(-1), (wires != 250).any(-1)
    assert 0.02 < on_wires.sum() / drawn.sum() < 0.5 and not (on_wires & ~drawn).any()
    small = draw_mesh_overlay(rgb, mask, *head, side=64, opacity=1.0, wireframe=True)
    fine = wires.reshape(-1, 16, 64, 16, 3).mean((1, 3))  # the edges of a small image are no wider
    assert small.shape == fine.shape and np.abs(small - fine).max() < 2
