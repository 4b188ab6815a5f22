"""Refitting: pose and expression of a frame, fitted to its pixels with the avatar frozen.

Some publications fit the test frames' head states to the test images before they measure. The result contains no error
of the tracking, so it separates registration from quality. It has seen the truth and is always labelled *refitted*.

The fit is a damped Gauss-Newton method (Levenberg-Marquardt). Inverse skinning has no gradient, so derivatives are
finite differences: the frame is rendered once for each changed number, all of them at once. The prior is the tracked
state, with the standard deviations below. The paper describes no refitting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import Rays

_ROTATION, _TRANSLATION, _JAW, _GAZE = 0.05, 0.01, 0.1, 0.15
"""Standard deviations of the prior: radians, metres, radians, radians."""
_DIFFERENCE = 0.1
"""Step of the finite differences, in standard deviations of the prior."""
_NOISE = 0.05
"""Standard deviation of the colour of a pixel around the avatar's, which weighs the prior."""
_GAZE_PITCH, _GAZE_YAW = (0, 3), (1, 4)
"""Entries of `HeadState.eyes` that turn both eyes together."""


@dataclass
class RefitConfig:
    """Effort of a refit."""

    iterations: int = 4
    """Steps of the Gauss-Newton method."""
    num_pixels: int = 1000
    """Pixels of the head to which a frame is fitted, evenly spread."""
    num_expressions: int = 8
    """Directions in which the expression may move: those of the largest variance in training."""


class Refitter:
    """Fits head states to pixels. The avatar stays as it is."""

    def __init__(self, avatar: Avatar, seen: HeadState, config: RefitConfig | None = None) -> None:
        """
        Args:
            avatar: in evaluation mode.
            seen: head states of training, batch axes (timesteps,); they give the directions of expressions.
            config: effort.
        """
        self.config, self._avatar = config or RefitConfig(), avatar
        self._directions = _principal_directions(seen.expression, self.config.num_expressions).to(
            avatar.identity.device
        )
        scales = [_ROTATION] * 3 + [_TRANSLATION] * 3 + [_JAW] * 3 + [_GAZE] * 2
        self._scales = torch.tensor(scales, device=avatar.identity.device)

    @torch.no_grad()
    def refit(
        self,
        state: HeadState,
        rays: Rays,
        truth: Float[Tensor, "pixels 3"],
        region: Bool[Tensor, "pixels"],
    ) -> HeadState:
        """The head state that reproduces an image best.

        Args:
            state: as tracked, batch axes (1,).
            rays: one frame, one ray for each pixel of the image.
            truth: colours of these pixels in [0, 1].
            region: the pixels that may be used, such as those of the head.

        Returns:
            The refitted state; the tracked one if no pixel may be used.
        """
        pixels = region.nonzero()[:, 0]
        if len(pixels) == 0:
            return state
        pixels = pixels[torch.linspace(0, len(pixels) - 1, min(len(pixels), self.config.num_pixels)).long()]
        rays = Rays(rays.origins[:, pixels.to(rays.origins.device)], rays.directions[:, pixels.to(rays.origins.device)])
        state, colors = state.to(rays.origins.device), truth[pixels].to(rays.origins.device)
        numbers = torch.zeros(1, len(self._scales) + len(self._directions), device=colors.device)
        errors, damping = self._errors(state, numbers, rays, colors), 1.0
        steps = _DIFFERENCE * torch.eye(numbers.shape[1], device=numbers.device)
        for _ in range(self.config.iterations):
            jacobian = (self._errors(state, numbers + steps, rays, colors) - errors) / _DIFFERENCE
            gradient = jacobian @ errors[0] + numbers[0]
            normal = jacobian @ jacobian.T + torch.eye(len(steps), device=steps.device)
            # Several dampings are tried at once. The next iteration starts from the best one.
            dampings = damping * torch.tensor([0.0, 0.1, 1.0, 10.0], device=steps.device)
            damped = normal + dampings[:, None, None] * torch.diag(normal.diagonal())
            tried = numbers - torch.linalg.solve(damped, gradient.expand(len(damped), -1))
            errors_tried = self._errors(state, tried, rays, colors)
            costs = errors_tried.square().sum(1) + tried.square().sum(1)
            best = int(costs.argmin())
            if costs[best] >= errors.square().sum() + numbers.square().sum():
                damping *= 10.0
                continue
            numbers, errors = tried[best : best + 1], errors_tried[best : best + 1]
        return self._moved(state, numbers)

    def _errors(
        self, state: HeadState, numbers: Float[Tensor, "trials numbers"], rays: Rays, colors: Float[Tensor, "pixels 3"]
    ) -> Float[Tensor, "trials errors"]:
        """Errors of the colours for several changes of a state, in standard deviations."""
        trials = self._moved(state, numbers)
        repeated = Rays(*(v.expand(len(numbers), -1, -1) for v in (rays.origins, rays.directions)))
        # Errors of neighbouring pixels are correlated: ten pixels count as one.
        return ((self._avatar.render(repeated, trials).rgb - colors) / (_NOISE * 10**0.5)).flatten(1)

    def _moved(self, state: HeadState, numbers: Float[Tensor, "trials numbers"]) -> HeadState:
        """The state with these changes, in standard deviations of the prior."""
        change, along = numbers.split([len(self._scales), len(self._directions)], dim=1)
        rotation, translation, jaw, gaze = (change * self._scales).split([3, 3, 3, 2], dim=1)
        eyes = torch.zeros(len(numbers), 6, device=numbers.device)
        eyes[:, _GAZE_PITCH], eyes[:, _GAZE_YAW] = gaze[:, :1].expand(-1, 2), gaze[:, 1:].expand(-1, 2)
        return replace(
            state,
            expression=state.expression + along @ self._directions,
            rotation=state.rotation + rotation,
            neck=state.neck.expand(len(numbers), -1),
            jaw=state.jaw + jaw,
            eyes=state.eyes + eyes,
            translation=state.translation + translation,
            torso=None if state.torso is None else state.torso.expand(len(numbers), -1),
        )


def _principal_directions(expressions: Float[Tensor, "timesteps expr"], num: int) -> Float[Tensor, "directions expr"]:
    """Directions of the largest variance, each as long as its standard deviation; fewer if fewer vary."""
    centered = expressions - expressions.mean(0)
    _, lengths, directions = torch.linalg.svd(centered, full_matrices=False)
    deviations = lengths / max(1, len(expressions)) ** 0.5
    varies = deviations[:num] > 1e-6
    return (deviations[:num, None] * directions[:num])[varies]
