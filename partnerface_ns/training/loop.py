"""Training without a framework: which rays a step sees, the schedule, and a plain loop.

The nerfstudio plugin uses the same `RaySampler` and `Schedule`, so both ways of training take the same steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.capture.capture import Camera, Frame
from partnerface_ns.common.errors import SubjectError
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Intrinsics, project_points, rays_through_pixels
from partnerface_ns.rendering.metrics import above_neck
from partnerface_ns.rendering.rays import RayBatch, Rays
from partnerface_ns.training.captured_step import RecordedStep, backward
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.training.step_guard import StepGuard, StepResult

_NEAR = 0.01
"""Metres before the camera from which on a point is in sight."""


@dataclass
class RaySamplerConfig:
    """Which pixels a training step sees."""

    rays_per_batch: int = 1024
    """Rays of a step."""
    frames_per_batch: int = 4
    """Pictures that the rays of a step come from; the head is posed once for each."""
    mouth_share: float = 0.1
    """Share of rays aimed at the mouth's box."""
    eyes_share: float = 0.15
    """Share of rays aimed at the eyes' box."""
    outline_share: float = 0.15
    """Share of rays aimed at the person's outline in the head's box, where half of the head's error is."""
    head_share: float = 0.25
    """Share of rays aimed anywhere in the head's box."""
    foreground_share: float = 0.15
    """Share of rays aimed at the person; the rest falls anywhere in the picture."""

    def __post_init__(self) -> None:
        shares = {name: value for name, value in vars(self).items() if name.endswith("_share")}
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-6:
            named = ", ".join(f"{name} {value:g}" for name, value in shares.items())
            raise SubjectError("sampler", "shares of rays", expected="none below 0, at most 1 together", found=named)


@dataclass(frozen=True)
class Pictures:
    """Training pictures in memory, uint8."""

    rgb: Sequence[np.ndarray]
    """(height, width, 3) each, composited on the background."""
    mask: Sequence[np.ndarray]
    """(height, width) each, person = 255."""
    frames: Sequence[Frame]
    boxes: Float[np.ndarray, "pictures regions 4"]
    """Boxes of mouth, eyes and head in each picture: left, top, right, bottom in pixels; they may reach beyond it."""


class RaySampler:
    """Draws each step's rays; the same seed and step always give the same rays."""

    def __init__(self, config: RaySamplerConfig, pictures: Pictures, seed: int = 0) -> None:
        self.config, self.pictures, self.seed = config, pictures, seed
        sides = np.array([mask.shape[::-1] * 2 for mask in pictures.mask], np.float32)
        self._boxes = np.clip(pictures.boxes, 0, sides[:, None])

    def sample(self, step: int) -> RayBatch:
        """The rays of a step, those of one frame lying together."""
        rng = np.random.default_rng((self.seed, step))
        num_pictures = len(self.pictures.rgb)
        num_frames = min(self.config.frames_per_batch, num_pictures)
        chosen = sorted(rng.choice(num_pictures, num_frames, replace=False).tolist())
        per_frame = self.config.rays_per_batch // num_frames
        pixels = np.stack([self._pixels(rng, i, per_frame) for i in chosen])
        origins, directions = zip(*(self._rays(i, p) for i, p in zip(chosen, pixels, strict=True)), strict=True)
        rgb = np.stack([self.pictures.rgb[i][p[:, 0], p[:, 1]] for i, p in zip(chosen, pixels, strict=True)])
        mask = np.stack([self.pictures.mask[i][p[:, 0], p[:, 1]] for i, p in zip(chosen, pixels, strict=True)])
        return RayBatch(
            rays=Rays(torch.cat(origins), torch.cat(directions), torch.arange(num_frames).repeat_interleave(per_frame)),
            picture=torch.tensor(chosen),
            timesteps=torch.tensor([self.pictures.frames[i].timestep for i in chosen]),
            pixels=torch.from_numpy(pixels).flatten(0, 1),
            rgb=torch.from_numpy(rgb).flatten(0, 1).float() / 255,
            mask=torch.from_numpy(mask).flatten()[:, None].float() / 255,
        )

    def _rays(self, index: int, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        camera = self.pictures.frames[index].camera
        centers = torch.from_numpy(pixels[:, ::-1].copy()).float() + 0.5
        intrinsics = Intrinsics(camera.fl_x, camera.fl_y, camera.cx, camera.cy)
        return rays_through_pixels(centers, intrinsics, torch.from_numpy(camera.T_world_camera).float())

    def _pixels(self, rng: np.random.Generator, index: int, count: int) -> np.ndarray:
        """Rows and columns: mouth, eyes, head, outline, person, anywhere."""
        c, mask = self.config, self.pictures.mask[index]
        height, width = mask.shape
        whole = np.array([0, 0, width, height], np.float32)
        boxes = self._boxes[index]
        in_sight = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        # Rays aimed at what lies outside the picture fall anywhere.
        shares = np.array([c.mouth_share, c.eyes_share, c.head_share, c.outline_share]) * in_sight[[0, 1, 2, 2]]
        *in_boxes, on_outline, on_person = (int(count * share) for share in (*shares, c.foreground_share))
        boxed = [_in_box(rng, box, n, height, width) for box, n in zip(boxes, in_boxes, strict=True)]
        # Rejection keeps the memory small: of several candidates for each ray, those that hit are taken first.
        near_outline = _in_box(rng, boxes[-1], 24 * on_outline, height, width)
        outline = _first(near_outline, beside_outline(mask, near_outline, boxes[-1]), on_outline)
        candidates = _in_box(rng, whole, 4 * on_person, height, width)
        person = _first(candidates, mask[candidates[:, 0], candidates[:, 1]] >= 128, on_person)
        anywhere = _in_box(rng, whole, count - sum(in_boxes) - on_outline - on_person, height, width)
        return np.concatenate([*boxed, outline, person, anywhere])


def _first(pixels: np.ndarray, hits: np.ndarray, count: int) -> np.ndarray:
    """`count` of the pixels, those that hit before those that do not."""
    return pixels[np.argsort(~hits, kind="stable")[:count]]


def beside_outline(mask: np.ndarray, pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether the person ends near each pixel: whether it and places beside it, a hundredth of the box's height off,
    lie partly inside and partly outside.
    """
    reach = max(1, round(float(box[3] - box[1]) / 100))
    steps = reach * np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
    beside = (pixels[:, None] + steps).clip(0, np.array(mask.shape) - 1)
    inside = (mask[beside[..., 0], beside[..., 1]] >= 128).sum(1)
    return (inside > 0) & (inside < len(steps))


def _in_box(rng: np.random.Generator, box: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    left, top, right, bottom = box
    # The picture's last edge belongs to its last pixel.
    x = rng.uniform(left, right, count).clip(0, width - 1)
    y = rng.uniform(top, bottom, count).clip(0, height - 1)
    return np.stack([y, x], -1).astype(np.int64)


def region_boxes(
    head: ShapedHead, track: HeadState, frames: Sequence[Frame], margin: float = 0.2
) -> Float[np.ndarray, "pictures regions 4"]:
    """Boxes of mouth, eyes and head, grown by `margin` of their size: left, top, right, bottom in pixels.

    Args:
        head: the person.
        track: head states, batch axes (timesteps,).
        frames: the pictures.
        margin: growth to all sides together, as a share of width and height.

    Returns:
        Boxes around what lies before the camera, which may reach beyond the picture; zeros where nothing does.

    Raises:
        SubjectError: a head state poses the head nowhere.
    """
    regions = head.model.regions
    eyes = torch.maximum(regions["eyeballs"], regions["eyelids"])
    picks = [torch.nonzero(mask > 0.5)[:, 0] for mask in (regions["lips"], eyes, above_neck(head.model))]
    boxes = np.empty((len(frames), len(picks), 4), np.float32)
    for start in range(0, len(frames), 64):
        part = frames[start : start + 64]
        verts = head.pose(track[torch.tensor([f.timestep for f in part])]).verts
        for i, frame in enumerate(part):
            if not bool(verts[i].isfinite().all()):
                name = frame.image_path or "capture"
                raise SubjectError(
                    name, "the head is posed nowhere", key=f"timestep {frame.timestep}", expected="finite head states"
                )
            for region, pick in enumerate(picks):
                boxes[start + i, region] = _box_around(verts[i, pick], frame.camera, margin)
    return boxes


def _box_around(points: Float[Tensor, "points 3"], camera: Camera, margin: float) -> Float[np.ndarray, "4"]:
    """A grown box around those points of the world that lie before the camera; zeros without any."""
    T = torch.from_numpy(camera.T_world_camera).float()
    before = points[(points - T[:3, 3]) @ T[:3, 2] < -_NEAR]
    if len(before) == 0:
        return np.zeros(4, np.float32)
    at = project_points(before, Intrinsics(camera.fl_x, camera.fl_y, camera.cx, camera.cy), T)
    low, high = at.amin(0), at.amax(0)
    grow = (high - low) * margin / 2
    return torch.cat([low - grow, high + grow]).numpy()


@dataclass
class ScheduleConfig:
    """How training goes with time."""

    max_steps: int = 30_000
    """Steps of a whole run."""
    max_minutes: float | None = None
    """Minutes of training after which the run ends, if that is before `max_steps`; None for no limit."""
    warmup_steps: int = 100
    """Steps over which the learning rates of what learns from the start rise from zero."""
    final_factor: float = 0.03
    """Learning rates at the end of training, as a share of those after the warm-up."""


class Schedule:
    """Progress of a run and what follows from it.

    Progress is the share of steps or of minutes done, whichever is further; stage and learning rates depend on it
    alone, so a resumed run goes on as if unbroken.
    """

    def __init__(
        self, config: ScheduleConfig, elapsed_seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """
        Args:
            config: length and course of the run.
            elapsed_seconds: trained before.
            clock: what `tick` reads, in seconds.
        """
        self.config, self._clock = config, clock
        self.elapsed_seconds = elapsed_seconds
        self._last: float | None = None

    def tick(self) -> None:
        """Count the time since the last tick; call once a step."""
        now = self._clock()
        if self._last is not None:
            self.elapsed_seconds += now - self._last
        self._last = now

    def progress(self, step: int) -> float:
        """Share of the run done before this step, in [0, 1]."""
        by_steps = step / self.config.max_steps
        if self.config.max_minutes is None:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, self.elapsed_seconds / (60 * self.config.max_minutes)))

    def learning_rate_factor(self, step: int, group: str) -> float:
        """Factor on a group's learning rate: zero before its share in `STARTS`; a warm-up, then a cosine down to
        `final_factor`.
        """
        if self.progress(step) < STARTS.get(group, 0.0):
            return 0.0
        warmup = min(1.0, (step + 1) / self.config.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step)))
        return warmup * (self.config.final_factor + (1 - self.config.final_factor) * cosine)


LEARNING_RATES = {
    "planes": 1e-2,
    "field": 3e-3,
    "deformation": 3e-3,
    "assigner": 2e-3,
    "torso": 2e-3,
    "correction": 1e-4,
}
"""Learning rate of each of the avatar's parameter groups, for Adam."""

STARTS = {"correction": 0.3}
"""Share of training, 0 to 1, before which a group stays as it is. While the field has no shape yet, a correction of
tracking fits anything: begun at once it moved the hair of an exactly tracked head by 5 mm."""


@dataclass
class FitConfig:
    """A whole training run outside a framework."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Length and course of the run."""
    sampler: RaySamplerConfig = field(default_factory=RaySamplerConfig)
    """Rays of each step."""
    seed: int = 0
    """Seed of ray sampling."""


class PlainStep:
    """Gradients of batches; `RecordedStep` is the same for a GPU."""

    def __init__(self, avatar: Avatar, track: HeadState) -> None:
        self._avatar, self._track = avatar, track

    def __call__(self, batch: RayBatch) -> StepResult:
        """As `RecordedStep`."""
        avatar, timesteps = self._avatar, batch.timesteps
        avatar.zero_grad(set_to_none=True)
        frames = avatar.warp.frames(self._track[timesteps], timesteps)
        output = avatar.render_frames(batch.rays, frames, timesteps)
        result = backward(avatar, output, batch.rgb, batch.mask, len(timesteps))
        avatar.end_step(result.finite)
        return result


def steps(
    avatar: Avatar,
    pictures: Pictures,
    track: HeadState,
    config: FitConfig,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[float, StepResult]]:
    """Train an avatar on pictures, a step at a time.

    Args:
        avatar: on the device to train on.
        pictures: the training pictures.
        track: head states of the capture, batch axes (timesteps,).
        config: of the run.
        clock: measures `max_minutes`; the process's own time makes runs side by side comparable.

    Yields:
        The progress after each step, in [0, 1], and what came of it.

    Raises:
        SubjectError: too many steps in a row are not finite.
    """
    sampler = RaySampler(config.sampler, pictures, config.seed)
    schedule = Schedule(config.schedule, clock=clock)
    groups = [{"params": p, "name": name, "lr": 0.0} for name, p in param_groups(avatar).items()]
    optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
    gradients = RecordedStep(avatar, track) if avatar.identity.is_cuda else PlainStep(avatar, track)
    guard = StepGuard("training", [optimizer])
    avatar.train()
    step = 0
    while schedule.progress(step) < 1:
        schedule.tick()
        avatar.set_progress(schedule.progress(step))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATES[group["name"]] * schedule.learning_rate_factor(step, group["name"])
        batch = sampler.sample(step)
        result = gradients(batch)
        guard.admit(step, result, [pictures.frames[i] for i in batch.picture.tolist()])
        optimizer.step()
        step += 1
        yield schedule.progress(step), result
    guard.end()


def fit(
    avatar: Avatar,
    pictures: Pictures,
    track: HeadState,
    config: FitConfig,
    on_step: Callable[[int, float, dict[str, float]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Train an avatar on pictures to the end; arguments as for `steps`.

    Args:
        on_step: called after each step with the number of steps taken, the progress and the loss terms.

    Returns:
        The number of steps taken.
    """
    taken = 0
    for progress, result in steps(avatar, pictures, track, config, clock):
        taken += 1
        if on_step is not None:
            on_step(taken, progress, {name: float(value) for name, value in result.terms.items()})
    return taken
