"""The normal equations of the photometric fit: landmarks, outline and detail images of some frames.

Each term is a list of residuals with weights. The weights contain the variance and the factor of the robust energy
(iteratively reweighted least squares). The terms of the landmarks are those of `energy.py`. The term of the outline is
linear for outliers, unlike `energy.outline_energy`, because the relief explains constant distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.tracking.fit.energy import (
    CORRELATED_LANDMARKS,
    CORRELATED_POINTS,
    geman_mcclure_weight,
    pseudo_huber_weight,
)
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints, pixel_derivatives

CORRELATED_TEXTURE = 3.0
"""Errors of neighbouring texture points are correlated: this many points count as one."""


@dataclass(frozen=True)
class Residuals:
    """Residuals of some frames and their derivatives with respect to the unknowns."""

    values: Float[Tensor, "frames rows"]
    """Pixels, or grey levels of 255 for detail images."""
    weights: Float[Tensor, "frames rows"]
    """Inverse variances times the factors of the robust energy."""
    derivatives: Float[Tensor, "frames rows unknowns"]


@dataclass(frozen=True)
class NormalEquations:
    """The quadratic approximation of an energy: `step . hessian . step / 2 + gradient . step`."""

    hessian: Float[Tensor, "frames unknowns unknowns"]
    gradient: Float[Tensor, "frames unknowns"]

    @staticmethod
    def of(terms: list[Residuals]) -> NormalEquations:
        parts = [(term.derivatives * term.weights[..., None], term) for term in terms]
        return NormalEquations(
            torch.stack([weighted.mT @ term.derivatives for weighted, term in parts]).sum(0),
            torch.stack([(weighted.mT @ term.values[..., None])[..., 0] for weighted, term in parts]).sum(0),
        )


def landmark_residuals(
    posed: PosedPoints,
    pixels: Float[Tensor, "frames landmarks 2"],
    detected: Float[Tensor, "frames landmarks 2"],
    sigmas: Float[Tensor, "landmarks"],
    weights: Float[Tensor, "frames landmarks"],
    pairs: Int[Tensor, "pairs 2"],
    gap_sigma: float,
    focal: float,
    with_shape: bool,
) -> list[Residuals]:
    """Distances of landmarks from the detected ones, and of the gaps between lids and between lips.

    Args:
        posed: points whose first ones are the landmarks.
        pixels: the projected landmarks.
        detected: the detected landmarks.
        sigmas: uncertainty of each landmark, pixels.
        weights: visibility of each landmark.
        pairs: landmarks on both sides of each gap.
        gap_sigma: uncertainty of the gaps, pixels.
        focal: focal length, pixels.
        with_shape: whether the shape coefficients are unknown.
    """
    num = pixels.shape[1]
    to_pixels = pixel_derivatives(posed.verts[:, :num], focal)
    axes = [posed.derivatives(slice(0, num), to_pixels[:, :, axis], with_shape) for axis in (0, 1)]
    error = pixels - detected
    weight = landmark_precision(error, sigmas, weights)
    first, second = pairs.T
    gap = error[:, first] - error[:, second]
    squared = (gap / gap_sigma).square().sum(-1)
    gap_weight = weights[:, first] * pseudo_huber_weight(squared) / gap_sigma**2
    places = [Residuals(error[..., axis], weight, axes[axis]) for axis in (0, 1)]
    gaps = [Residuals(gap[..., axis], gap_weight, axes[axis][:, first] - axes[axis][:, second]) for axis in (0, 1)]
    return places + gaps


def landmark_precision(
    error: Float[Tensor, "frames landmarks 2"],
    sigmas: Float[Tensor, "landmarks"],
    weights: Float[Tensor, "frames landmarks"],
) -> Float[Tensor, "frames landmarks"]:
    """Factor of the squared error of each landmark in the energy.

    Args:
        error: projected minus detected landmarks, pixels.
        sigmas: uncertainty of each landmark, pixels.
        weights: visibility of each landmark.
    """
    squared = (error / sigmas[:, None]).square().sum(-1)
    return weights * pseudo_huber_weight(squared) / sigmas.square() / CORRELATED_LANDMARKS


def bias_step(
    hessian: Float[Tensor, "landmarks 3 3"],
    gradient: Float[Tensor, "landmarks 3"],
    excluded: Float[Tensor, "coordinates directions"],
) -> Float[Tensor, "landmarks 3"]:
    """The Newton step of the landmarks' offsets that has no component along the excluded directions.

    Args:
        hessian: curvature of the energy for each landmark.
        gradient: of the energy.
        excluded: orthonormal directions of all landmarks' coordinates.
    """
    num = len(gradient)
    right = torch.cat([-gradient[..., None], excluded.unflatten(0, (num, 3))], -1).double()
    solved = torch.linalg.solve(hessian.double(), right).flatten(0, 1)
    free, pull = solved[:, 0], solved[:, 1:]
    basis = excluded.double().mT
    step = free - pull @ torch.linalg.solve(basis @ pull, basis @ free)
    return step.unflatten(0, (num, 3)).float()


@dataclass(frozen=True)
class OutlineErrors:
    """Distances of matched surface points from the tangents of the matte's outline, for each point of the outline."""

    distances: Float[Tensor, "frames outline"]
    """Pixels, positive outside the matte; 0 without a match."""
    weights: Float[Tensor, "frames outline"]
    """Inverse variances in 1/pixel^2, times weight and factor of the robust energy, for correlated points; 0 without a
    match."""
    slope: Float[Tensor, "frames outline 3"]
    """Derivatives of the distances with respect to the positions of the surface points in the camera frame, pixels per
    metre; 0 without a match."""


def outline_errors(
    verts: Float[Tensor, "frames points 3"],
    pixels: Float[Tensor, "frames points 2"],
    outline: Float[Tensor, "frames outline 4"],
    index: Int[Tensor, "frames outline"],
    weights: Float[Tensor, "frames outline"],
    sigma: float,
    focal: float,
) -> OutlineErrors:
    """Distances of matched surface points from the tangents of the matte's outline.

    Args:
        verts: posed points, metres; the camera is at the origin.
        pixels: their projections.
        outline: points and outward normals of the matte's outline.
        index: the matching point of each outline point.
        weights: weight of each match; 0 where there is none.
        sigma: uncertainty of the outline, pixels.
        focal: focal length, pixels.
    """
    frames = torch.arange(len(pixels), device=pixels.device)[:, None]
    outline = torch.where(weights[..., None] > 0, outline, 0.0)
    normals = outline[..., 2:]
    distances = ((pixels[frames, index] - outline[..., :2]) * normals).sum(-1)
    slope = torch.einsum("frk,frkc->frc", normals, pixel_derivatives(verts[frames, index], focal))
    robust = pseudo_huber_weight((distances / sigma).square())
    return OutlineErrors(distances, weights * robust / sigma**2 / CORRELATED_POINTS, slope)


def texture_residuals(
    posed: PosedPoints,
    part: slice,
    difference: Float[Tensor, "frames texture"],
    image_gradient: Float[Tensor, "frames texture 2"],
    weights: Float[Tensor, "frames texture"],
    noise: float,
    focal: float,
    with_shape: bool,
) -> Residuals:
    """Differences between the detail images and the template.

    Args:
        posed: the posed points.
        part: the texture points.
        difference: values of the detail images minus those of the template.
        image_gradient: derivatives of the detail images with respect to the pixels.
        weights: weight of each point: its visibility, divided by the number of correlated points.
        noise: standard deviation of the differences.
        focal: focal length, pixels.
        with_shape: whether the shape coefficients are unknown.
    """
    to_pixels = pixel_derivatives(posed.verts[:, part], focal)
    a = torch.einsum("fpk,fpkc->fpc", image_gradient, to_pixels)
    precision = image_precision(difference, weights, noise)
    return Residuals(difference, precision, posed.derivatives(part, a, with_shape))


def image_precision(
    difference: Float[Tensor, "frames points"], weights: Float[Tensor, "frames points"], noise: float
) -> Float[Tensor, "frames points"]:
    """Factor of the squared difference of each point in the energy.

    Args:
        difference: values of the detail images minus those of the template.
        weights: weight of each point: its visibility, divided by the number of correlated points.
        noise: standard deviation of the differences.
    """
    return weights * geman_mcclure_weight((difference / noise).square()) / noise**2
