"""Fitting a head model to landmarks and outlines of a whole video at once.

One identity and one focal length hold for all frames; each frame has its rotations, place and expression. Adam
minimises the energy of `energy.py` in three rounds: place and size, then everything, then everything with the outline.
The camera stands at the world's origin in OpenGL axes. Depth is fitted as the size of the head in the picture, so
that the focal length, which hardly shows in a face, does not shake everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.tracking import energy
from partnerface_ns.tracking.energy import Priors, Steadiness
from partnerface_ns.tracking.fit_head import FitHead
from partnerface_ns.tracking.landmarks import IRIS_LEFT, IRIS_RIGHT
from partnerface_ns.tracking.outline import match_outline

REFERENCE_SIZE = 512
"""Residuals are in pixels of a picture of this size."""
_CHUNK = 400
"""Frames posed at once: bounds the memory."""
_CORRELATED_FRAMES = 20.0
"""What the frames say about the identity is worth this many independent ones."""
_ROOT_SHARE = 0.2
"""Share of the head's turning that the root starts with; the neck has the rest."""
_OUTLINE_SIGMA = 2.0
_GAP_PAIRS = (
    *((159, 145), (160, 144), (158, 153), (386, 374), (385, 380), (387, 373)),
    *((13, 14), (82, 87), (312, 317), (81, 178), (311, 402)),
)
"""Landmarks of upper and lower lid, and of upper and lower lip."""
_GAP_SIGMA = 0.8


@dataclass(frozen=True)
class Observations:
    """What was seen in the frames that are fitted, in pixels of the `size` x `size` pictures."""

    size: int
    landmarks: Float[Tensor, "frames landmarks 3"]
    """x right, y down, and depth (smaller is nearer)."""
    outline: Float[Tensor, "frames points 4"]
    principal: Float[Tensor, "frames 2"]
    """Where the camera's axis meets each picture, pixels (pictures are cut out of larger frames)."""
    times: Float[Tensor, "frames"]
    """Seconds."""
    focal: float
    """Expected focal length, pixels."""

    def to(self, device: torch.device | str) -> Observations:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Observations(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})

    @property
    def px(self) -> float:
        """Pixels of a picture for one pixel at the reference size."""
        return self.size / REFERENCE_SIZE


@dataclass(frozen=True)
class Fit:
    """The fitted head, its states over time and the focal length."""

    identity: Float[Tensor, "identity"]
    """Coefficients of the `FitHead`: those of the full model, then displacements."""
    track: HeadState
    focal: float
    """Pixels."""
    landmark_bias: Float[Tensor, "landmarks 3"]
    """Where this person's landmarks lie beside the embedding's, rest frame, metres."""


@dataclass
class _Unknowns:
    """Tensors that are optimised; the leading axis is frames where there is one."""

    identity: Tensor
    landmark_bias: Tensor
    log_focal: Tensor
    expression: Tensor
    rotation: Tensor
    neck: Tensor
    jaw: Tensor
    gaze: Tensor
    vergence: Tensor
    place: Tensor
    log_depth: Tensor

    def items(self) -> list[tuple[str, Tensor]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]


_RATES = {
    "identity": 0.05,
    "landmark_bias": 2e-4,
    "log_focal": 0.01,
    "expression": 0.03,
    "rotation": 0.01,
    "neck": 0.01,
    "jaw": 0.01,
    "gaze": 0.015,
    "vergence": 0.005,
    "place": 1.0,
    "log_depth": 0.01,
}
"""Adam's step for each unknown, in its unit."""
_RIGID = ("identity", "rotation", "neck", "jaw", "place", "log_depth")


def fit_track(
    head: FitHead,
    seen: Observations,
    spread: Float[np.ndarray, "landmarks"],
    on_step: Callable[[], None] = lambda: None,
    steps: tuple[int, int, int] = (80, 220, 200),
    fixed_focal: bool = False,
    device: torch.device | str = "cpu",
) -> Fit:
    """Fit identity, focal length and a track to what was seen.

    Args:
        head: the reduced head model.
        seen: landmarks and outlines.
        spread: uncertainty of the landmarks' places on the head, metres.
        on_step: called after every step, for a progress bar.
        steps: of the three rounds.
        fixed_focal: whether the expected focal length is known.
        device: where to compute; the result is on the CPU.
    """
    problem = _Problem(head.to(device), seen.to(device), spread, fixed_focal)
    problem.minimise(steps[0], _RIGID, None, 1.0, on_step)
    everything = tuple(_RATES)
    problem.minimise(steps[1], everything, None, 1.0, on_step)
    rounds = 4
    for i in range(rounds):
        matches = problem.match_outline(gate=(40, 25, 15, 12)[i] * seen.px)
        problem.minimise(steps[2] // rounds, everything, matches, 0.4 * 0.6**i, on_step)
    return problem.result()


@dataclass(frozen=True)
class _Matches:
    indices: Tensor
    found: Bool[Tensor, "frames points"]


class _Problem:
    def __init__(self, head: FitHead, seen: Observations, spread: np.ndarray, fixed_focal: bool) -> None:
        self.head, self.seen, self.fixed_focal = head, seen, fixed_focal
        self.priors, self.steady = Priors(), Steadiness()
        start = initial_pose(head, seen)
        px_per_metre = float(start.scale.median())
        self.sigmas = energy.landmark_sigmas(spread * px_per_metre / seen.px) * seen.px
        self.bias_sigma = torch.from_numpy(np.clip(spread, 5e-4, 3e-3)).float()[:, None]
        self.bias_sigma[IRIS_LEFT] = self.bias_sigma[IRIS_RIGHT] = 3e-4
        self.unknowns = _start(head, start)
        for _, tensor in self.unknowns.items():
            tensor.requires_grad_(True)
        self.step_seconds = float(torch.diff(seen.times).median()) if len(seen.times) > 1 else 0.04
        self.neighbours = _has_neighbours(seen.times, self.step_seconds)
        self.openness = _eye_openness(seen.landmarks)
        blink = [i for i, n in enumerate(head.model.expression_names) if n.startswith(("eyeBlink", "eyeSquint"))]
        self.expression_steadiness = torch.full((head.model.num_expr,), self.steady.expression)
        self.expression_steadiness[blink] = self.steady.eyelid
        self.named = not head.model.expression_names[0].startswith("expr_")
        self.pairs = torch.tensor(_GAP_PAIRS)

    def minimise(
        self,
        steps: int,
        names: tuple[str, ...],
        matches: _Matches | None,
        rate: float,
        on_step: Callable[[], None],
    ) -> None:
        free = [(n, t) for n, t in self.unknowns.items() if n in names and not (n == "log_focal" and self.fixed_focal)]
        groups = [{"params": [t], "lr": _RATES[n] * rate} for n, t in free]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda i: 0.5 * (1 + np.cos(np.pi * min(1.0, i / steps))) * 0.95 + 0.05
        )
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            self._prior_energy().backward()
            for chunk in self._chunks():
                self._data_energy(chunk, matches).backward()
            optimiser.step()
            schedule.step()
            on_step()

    def _chunks(self) -> list[slice]:
        num = len(self.seen.times)
        return [slice(i, min(i + _CHUNK, num)) for i in range(0, num, _CHUNK)]

    @property
    def focal(self) -> Tensor:
        return self.seen.focal * self.unknowns.log_focal.exp()

    def states(self, chunk: slice) -> HeadState:
        u = self.unknowns
        size = u.log_depth[chunk].exp()
        translation = torch.cat([u.place[chunk] * size, -self.focal * size], -1)
        gaze, vergence = u.gaze[chunk], u.vergence[chunk]
        zero = torch.zeros_like(vergence)
        pitch, yaw = gaze.split(1, -1)
        eyes = torch.cat([pitch, yaw - vergence, zero, pitch, yaw + vergence, zero], -1)
        return HeadState(u.expression[chunk], u.rotation[chunk], u.neck[chunk], u.jaw[chunk], eyes, translation)

    def _posed(self, chunk: slice) -> tuple[Tensor, Tensor]:
        """Points on the screen, and the same points in the world."""
        u = self.unknowns
        offset = torch.zeros_like(self.head.model.template)
        offset = torch.cat([u.landmark_bias, offset[len(u.landmark_bias) :]])
        posed = ShapedHead.of(self.head.model, u.identity, offset).pose(self.states(chunk))
        return self._project(posed.verts, chunk), posed.verts

    def _project(self, verts: Tensor, chunk: slice) -> Tensor:
        flip = torch.tensor([1.0, -1.0])
        return self.seen.principal[chunk, None] + self.focal * flip * verts[..., :2] / -verts[..., 2:]

    def _data_energy(self, chunk: slice, matches: _Matches | None) -> Tensor:
        screen, verts = self._posed(chunk)
        num, px = self.head.num_landmarks, self.seen.px
        detected = self.seen.landmarks[chunk, :, :2]
        weights = self._visibility(verts[:, :num].detach(), chunk)
        total = energy.landmark_energy(screen[:, :num], detected, self.sigmas, weights)
        total = total + energy.lip_gap_energy(screen[:, :num], detected, self.pairs, _GAP_SIGMA * px, weights)
        if matches is not None:
            points = screen[:, num : num + self.head.num_outline]
            index = matches.indices[chunk][..., None].expand(-1, -1, 2)
            chosen, found = points.gather(1, index), matches.found[chunk]
            total = total + energy.outline_energy(chosen[found], self.seen.outline[chunk][found], _OUTLINE_SIGMA * px)
        return total

    def _visibility(self, landmarks: Tensor, chunk: slice) -> Tensor:
        """Weights of landmarks: the detector guesses those on the far side of the head; irises need open lids."""
        u = self.unknowns
        rotation = rotation_from_axis_angle(u.rotation[chunk].detach()) @ rotation_from_axis_angle(
            u.neck[chunk].detach()
        )
        normals = torch.einsum("fab,lb->fla", rotation, self.head.landmark_normals)
        sight = torch.nn.functional.normalize(-landmarks, dim=-1)
        weights = ((normals * sight).sum(-1) / 0.4).clamp(0.02, 1)
        openness = self.openness[chunk]
        for side, part in enumerate((IRIS_LEFT, IRIS_RIGHT)):
            corner = (362, 133)[side]
            weights[:, part] = weights[:, corner, None] * 6 * openness[:, side, None]
        return weights

    def _prior_energy(self) -> Tensor:
        u, p, s = self.unknowns, self.priors, self.steady
        half = lambda value, sigma: 0.5 * (value / sigma).square().sum()  # noqa: E731
        num = len(self.seen.times)
        once = num / _CORRELATED_FRAMES if num > _CORRELATED_FRAMES else 1.0
        n = self.head.num_identity
        total = once * (
            half(u.identity[:n], p.identity)
            + half(u.identity[n:], p.displacement)
            + half(u.landmark_bias, self.bias_sigma)
            + half(u.log_focal, p.log_focal)
        )
        sigma = p.expression if self.named else 1.0
        total = total + half(u.expression, sigma) + half(u.neck, p.neck)
        if self.named:
            total = total + energy.bounds_energy(u.expression, 0.0, 1.0, 0.08)
        total = total + half(u.rotation - u.rotation.mean(0), p.root)
        total = total + half(u.jaw[:, :1], p.jaw_open) + half(u.jaw[:, 1:], p.jaw_side)
        total = total + half(u.jaw[:, :1].clamp(max=0), 0.01)
        total = total + half(u.gaze, p.gaze) + half(u.vergence - 0.02, p.vergence)
        # Steadiness is stated at 25 frames a second; second differences grow with the square of the step.
        scale = min(4.0, (self.step_seconds / 0.04) ** 2)
        head = rotation_vector(u.rotation, u.neck)
        for values, deviation in (
            (head, s.angle),
            (u.rotation, s.root),
            (u.place, s.place * self.seen.px),
            (u.log_depth, s.log_depth),
            (u.jaw, s.jaw),
            (u.gaze, s.gaze),
            (u.vergence, s.gaze / 4),
            (u.expression, self.expression_steadiness),
        ):
            total = total + energy.steadiness_energy(values, deviation * scale, self.neighbours)
        return total

    @torch.no_grad()
    def match_outline(self, gate: float) -> _Matches:
        indices, found = [], []
        num = self.head.num_landmarks
        outline = slice(num, num + self.head.num_outline)
        for chunk in self._chunks():
            screen, verts = self._posed(chunk)
            posed = ShapedHead.of(self.head.model, self.unknowns.identity).pose(self.states(chunk))
            turn = posed.skinning(self.head.model.skinning_weights)[..., outline, :3, :3]
            normals = torch.einsum("fvab,vb->fva", turn, self.head.outline_normals)
            normals = torch.nn.functional.normalize(normals, dim=-1)
            sight = torch.nn.functional.normalize(-verts[:, outline], dim=-1)
            flat = torch.nn.functional.normalize(normals[..., :2] * torch.tensor([1.0, -1.0]), dim=-1)
            facing = (normals * sight).sum(-1)
            i, f = match_outline(self.seen.outline[chunk], screen[:, outline], flat, facing, gate)
            indices.append(i)
            found.append(f)
        return _Matches(torch.cat(indices), torch.cat(found))

    @torch.no_grad()
    def result(self) -> Fit:
        u = self.unknowns
        track = self.states(slice(None))
        track = HeadState(*(getattr(track, f.name).detach().clone() for f in fields(HeadState)))
        return Fit(u.identity.detach().clone(), track, float(self.focal), u.landmark_bias.detach().clone())


def rotation_vector(root: Float[Tensor, "frames 3"], neck: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 6"]:
    """Two columns of the head's rotation: where it looks and where its left is, without an angle's jumps."""
    rotation = rotation_from_axis_angle(root) @ rotation_from_axis_angle(neck)
    return rotation[..., [0, 2]].reshape(len(root), 6)


@dataclass(frozen=True)
class Pose:
    """A first guess of each frame's pose."""

    rotation: Float[Tensor, "frames 3 3"]
    scale: Float[Tensor, "frames"]
    """Pixels of the picture for one metre at the head."""
    centre: Float[Tensor, "frames 2"]
    """Mean landmark, pixels from the principal point, x right and y up."""


def initial_pose(head: FitHead, seen: Observations) -> Pose:
    """The similarity that takes the head's neutral landmarks to the detected ones with their depths (Procrustes)."""
    num = head.num_landmarks
    rest = head.model.template[:num]
    rest = (rest - rest.mean(0)).double()
    points = seen.landmarks.double() * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    centred = points - points.mean(1, keepdim=True)
    u, singular, vt = torch.linalg.svd(torch.einsum("fla,lb->fab", centred, rest))
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.linalg.det(u @ vt).sign()
    rotation = u @ torch.diag_embed(sign) @ vt
    scale = (singular * sign).sum(-1) / rest.square().sum()
    principal = seen.principal.double() * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return Pose(rotation.float(), scale.float(), (points[..., :2].mean(1) - principal).float())


def _start(head: FitHead, pose: Pose) -> _Unknowns:
    from scipy.spatial.transform import Rotation

    num = len(pose.scale)
    turn = Rotation.from_matrix(pose.rotation.numpy())
    mean = turn.mean().as_rotvec()
    root = torch.from_numpy(mean + _ROOT_SHARE * (turn.as_rotvec() - mean)).float()
    neck = torch.from_numpy((Rotation.from_rotvec(root.numpy()).inv() * turn).as_rotvec()).float()
    zeros = lambda size: torch.zeros(num, size)  # noqa: E731
    state = HeadState(zeros(head.model.num_expr), root, neck, zeros(3), zeros(6), zeros(3))
    shaped = ShapedHead.of(head.model, torch.zeros(head.model.num_identity))
    posed = shaped.pose(state).verts[:, : head.num_landmarks].mean(1)
    # At depth f / scale a metre measures `scale` pixels; the landmarks' centre shall project to where it was seen.
    place = pose.centre - posed[:, :2] * pose.scale[:, None]
    return _Unknowns(
        identity=torch.zeros(head.model.num_identity),
        landmark_bias=torch.zeros(head.num_landmarks, 3),
        log_focal=torch.zeros(()),
        expression=zeros(head.model.num_expr),
        rotation=root,
        neck=neck,
        jaw=zeros(3),
        gaze=zeros(2),
        vergence=torch.full((num, 1), 0.02),
        place=place,
        log_depth=-pose.scale.log()[:, None],
    )


def _has_neighbours(times: Tensor, step: float) -> Tensor:
    """1 where the frames before and after are at most two steps away, else 0."""
    near = torch.diff(times) < 2.1 * step
    result = torch.zeros(len(times))
    result[1:-1] = (near[1:] & near[:-1]).float()
    return result


def _eye_openness(landmarks: Tensor) -> Float[Tensor, "frames 2"]:
    """How far the left and the right eye are open: 0 closed, 1 wide enough to see the iris well."""
    result = []
    for upper, lower, a, b in ((386, 374, 362, 263), (159, 145, 133, 33)):
        gap = (landmarks[:, upper] - landmarks[:, lower]).norm(dim=-1)
        width = (landmarks[:, a] - landmarks[:, b]).norm(dim=-1)
        result.append(((gap / width - 0.08) / 0.12).clamp(0, 1))
    return torch.stack(result, -1)
