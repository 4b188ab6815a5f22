"""Metrics of images and their regions."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.geometry.camera import Camera, project_points
from partnerface_ns.rendering import metrics
from partnerface_ns.rendering.metric_regions import above_neck, metric_regions
from partnerface_ns.rendering.metrics import image_metrics, load_lpips, mean_metrics

HEIGHT, WIDTH = 60, 80
FOREGROUND = (torch.arange(HEIGHT)[:, None] - 30) ** 2 + (torch.arange(WIDTH) - 42) ** 2 < 14**2
"""A disc whose edge crosses the head."""


def camera_at(distance: float = 0.6, x: float = 0.0) -> Camera:
    T = np.eye(4)
    T[:3, 3] = [x, -0.02, distance]
    return Camera(T, 100.0, 105.0, WIDTH / 2 + 2, HEIGHT / 2 - 3, WIDTH, HEIGHT)


def projected(verts, camera):
    return project_points(verts, camera.intrinsics, torch.from_numpy(camera.T_world_camera).float()).double()


@pytest.fixture
def tiny_head(tiny_head):
    """The tiny head with lips; its rings of vertices are too far apart for the default region."""
    lips = (tiny_head.template - torch.tensor([0.0, -0.03, 0.1])).norm(dim=-1) < 0.07
    assert lips.sum() > 2
    return replace(tiny_head, regions={**tiny_head.regions, "lips": lips.float()})


@pytest.fixture
def images():
    truth = torch.rand(HEIGHT, WIDTH, 3)
    return (truth + 0.1 * torch.randn_like(truth)).clamp(0, 1), truth


@pytest.fixture
def regions(tiny_head):
    return metric_regions(tiny_head.template, tiny_head, camera_at(), FOREGROUND)


def slow_ssim_map(rgb, truth, mode="reflect"):
    """SSIM of Wang et al. from its definition: weighted moments of each pixel's window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def moment(values):
        padded = np.pad(values, ((5, 5), (5, 5), (0, 0)), mode=mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (11, 11), axis=(0, 1))
        return np.einsum("rckij,ij->rck", windows, window)

    x, y = rgb.double().numpy(), truth.double().numpy()
    mean_x, mean_y = moment(x), moment(y)
    var_x, var_y, covariance = moment(x * x) - mean_x**2, moment(y * y) - mean_y**2, moment(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return (luminance * (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)).mean(-1)


def test_metrics_follow_their_definitions(images, regions):
    rgb, truth = images
    found = image_metrics(rgb, truth, regions)
    assert list(found) == [
        "psnr",
        "ssim",
        "l1",
        "psnr_head",
        "psnr_mouth",
        "psnr_eyes",
        "psnr_outline",
        "ssim_head",
        "psnr_torso_free",
        "ssim_torso_free",
    ]
    assert found["psnr"] == pytest.approx(float(-10 * (rgb - truth).square().mean().log10()), abs=1e-4)
    similarity = slow_ssim_map(rgb, truth)
    assert found["ssim"] == pytest.approx(similarity.mean(), abs=1e-5)
    assert found["ssim_head"] == pytest.approx(similarity[regions["head"].numpy()].mean(), abs=1e-5)
    assert found["l1"] == pytest.approx(float((rgb - truth).abs().mean()))
    for name in ("head", "mouth", "eyes", "outline"):
        error = (rgb[regions[name]] - truth[regions[name]]).square().mean()
        assert found[f"psnr_{name}"] == pytest.approx(float(-10 * error.log10()), abs=1e-4)


def test_ssim_of_the_head_sees_the_head_only(images, regions):
    _, truth = images
    rgb = truth.clone()
    far = ~torch.nn.functional.max_pool2d(regions["head"][None].float(), 13, 1, 6)[0].bool()
    rgb[far] = 0
    found = image_metrics(rgb, truth, regions)
    assert found["ssim_head"] == pytest.approx(1) and found["ssim"] < 0.9


def test_equal_images_have_a_finite_psnr(images, regions):
    assert image_metrics(images[1], images[1], regions)["psnr"] == pytest.approx(100)


def test_a_region_outside_the_image_is_nan(tiny_head, images):
    away = metric_regions(tiny_head.template, tiny_head, camera_at(x=1.0), FOREGROUND)
    behind = metric_regions(tiny_head.template, tiny_head, camera_at(distance=-0.6), FOREGROUND)
    through = metric_regions(tiny_head.template, tiny_head, camera_at(distance=0.0), FOREGROUND)
    for regions in (away, behind, through):
        assert all(region.shape == (HEIGHT, WIDTH) and not region.any() for region in regions.values())
        found = image_metrics(*images, regions)
        assert all(
            math.isnan(found[name]) for name in ("psnr_head", "ssim_head", "psnr_mouth", "psnr_eyes", "psnr_outline")
        )
        assert math.isfinite(found["psnr"])


def test_the_head_is_the_hull_above_the_neck_grown_by_a_twentieth_of_its_height(tiny_head, regions):
    points = projected(tiny_head.template[above_neck(tiny_head)], camera_at())
    height = float(np.ptp(points[:, 1].numpy()))
    rows, columns = torch.nonzero(regions["head"]).double().T + 0.5
    for found, expected in (
        (rows.min(), points[:, 1].min() - 0.05 * height),
        (rows.max(), points[:, 1].max() + 0.05 * height),
        (columns.min(), points[:, 0].min() - 0.05 * height),
        (columns.max(), points[:, 0].max() + 0.05 * height),
    ):
        assert abs(float(found - expected)) <= 1
    torso = projected(tiny_head.template[tiny_head.regions["torso"] > 0.5], camera_at())
    assert rows.max() < torso[:, 1].max() - 5, "the shoulders are not in it"
    for x, y in points.floor().long().tolist():
        assert regions["head"][y, x]


def test_mouth_and_eyes_are_boxes_a_fifth_larger_than_their_vertices(tiny_head, regions):
    at = projected(tiny_head.template, camera_at())
    lips = at[tiny_head.regions["lips"] > 0.5]
    rows, columns = torch.nonzero(regions["mouth"]).T
    size = lips.amax(0) - lips.amin(0)
    assert abs(int(columns.max() - columns.min()) + 1 - 1.2 * float(size[0])) <= 1
    assert abs(int(rows.max() - rows.min()) + 1 - 1.2 * float(size[1])) <= 1
    assert regions["mouth"].sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    occupied = regions["eyes"].any(0).int()
    assert (occupied.diff() == 1).sum() == 2, "one box for each eye"


def test_the_outline_is_within_a_fiftieth_of_the_heads_height_of_the_foregrounds_edge(tiny_head, regions):
    points = projected(tiny_head.template[above_neck(tiny_head)], camera_at())
    width = 0.02 * float(np.ptp(points[:, 1].numpy()))
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    centers = torch.stack([rows, columns], -1).double()
    distance = torch.empty(HEIGHT, WIDTH).double()
    for inside in (FOREGROUND, ~FOREGROUND):
        distance[inside] = torch.cdist(centers[inside], centers[~inside]).amin(1) - 0.5
    assert torch.equal(regions["outline"], regions["head"] & (distance <= max(width, 0.5)))
    assert 0 < regions["outline"].sum() < regions["head"].sum() / 3


def test_a_foreground_without_an_edge_has_no_outline(tiny_head):
    for foreground in (torch.ones(HEIGHT, WIDTH, dtype=torch.bool), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)):
        assert not metric_regions(tiny_head.template, tiny_head, camera_at(), foreground)["outline"].any()


def test_a_pixel_is_of_the_torso_if_the_nearest_visible_surface_is(tiny_head, regions):
    at = projected(tiny_head.template, camera_at())
    torso = tiny_head.regions["torso"] > 0.5
    for chosen, expected in ((torso, True), (~torso, False)):
        middle = at[chosen].mean(0).floor().long()
        assert bool(regions["torso"][middle[1], middle[0]]) is expected
    assert regions["torso"][-1, WIDTH // 2], "below the mesh the torso continues"
    assert not regions["torso"][0].any(), "above the mesh is hair"


def test_torso_free_metrics_do_not_see_the_torso(images, regions):
    rgb, truth = images
    other = torch.where(regions["torso"][..., None], torch.rand(HEIGHT, WIDTH, 3), truth)
    assert image_metrics(other, truth, regions)["psnr"] < 40
    assert image_metrics(other, truth, regions)["psnr_torso_free"] == pytest.approx(100)
    error = (rgb - truth)[~regions["torso"]].square().sum() / truth.numel()
    assert image_metrics(rgb, truth, regions)["psnr_torso_free"] == pytest.approx(float(-10 * error.log10()), abs=1e-4)


def test_lpips_of_the_head_is_that_of_its_box(images, regions):
    rgb, truth = images
    seen = []
    metrics = image_metrics(rgb, truth, regions, lambda a, b: seen.append((a, b)) or float(a.shape[0]))
    rows, columns = regions["head"].nonzero().T
    box = (slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1))
    assert metrics["lpips_head"] == box[0].stop - box[0].start
    assert torch.equal(seen[1][0], rgb[box]) and torch.equal(seen[1][1], truth[box])
    assert (seen[2][0][regions["torso"]] == 1).all()


def test_a_metrics_mean_is_over_the_images_that_have_it():
    means = mean_metrics([{"a": 1.0, "b": math.nan, "c": math.nan}, {"a": 2.0, "b": 5.0, "c": math.nan}])
    assert means["a"] == 1.5 and means["b"] == 5.0 and math.isnan(means["c"])


def test_small_images_have_metrics(tiny_head):
    camera = Camera(camera_at().T_world_camera, 12.0, 12.0, 3.0, 2.0, 6, 4)
    regions = metric_regions(tiny_head.template, tiny_head, camera, torch.ones(4, 6, dtype=torch.bool))
    rgb, truth = torch.rand(4, 6, 3), torch.rand(4, 6, 3)
    found = image_metrics(rgb, truth, regions)
    assert found["ssim"] == pytest.approx(slow_ssim_map(rgb, truth, mode="edge").mean(), abs=1e-5)


def test_missing_lpips_gives_a_reason_in_one_line(monkeypatch):
    import torchmetrics.image.lpip as module

    class Offline:
        def __init__(self, **kwargs):
            raise OSError("<urlopen error\nno network>")

    monkeypatch.setattr(module, "LearnedPerceptualImagePatchSimilarity", Offline)
    load_lpips.cache_clear()
    lpips, reason = load_lpips()
    assert lpips is None and "no network" in reason and "\n" not in reason
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    load_lpips.cache_clear()
    assert load_lpips()[0] is None
    load_lpips.cache_clear()


def test_lpips_is_loaded_once_and_takes_images(monkeypatch):
    import torchmetrics.image.lpip as module

    made = []

    class Network:
        def __init__(self, **kwargs):
            made.append(kwargs)

        def __call__(self, a, b):
            assert a.shape == b.shape == (1, 3, 64, 70) and a.max() <= 1
            return (a - b).abs().mean()

    monkeypatch.setattr(module, "LearnedPerceptualImagePatchSimilarity", Network)
    load_lpips.cache_clear()
    lpips, reason = load_lpips()
    assert load_lpips()[0] is lpips and made == [{"net_type": "alex", "normalize": True}] and reason is None
    rgb, truth = torch.zeros(64, 70, 3), torch.full((64, 70, 3), 1.25)
    assert lpips(rgb, truth) == pytest.approx(1)
    assert math.isnan(lpips(rgb[:8], truth[:8]))
    load_lpips.cache_clear()


def test_psnr_of_no_pixels_is_nan():
    assert math.isnan(metrics.psnr(torch.zeros(0, 3), torch.zeros(0, 3)))
