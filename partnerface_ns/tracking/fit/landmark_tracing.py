"""Places landmarks on the surface of a head model, from detections in several images; irises are constructed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.rasterizer import Visible
from partnerface_ns.tracking.fit.head_views import IRIS_ANGLE
from partnerface_ns.tracking.video.face_topology import IRIS_LEFT, IRIS_RIGHT, NUM_LANDMARKS
from partnerface_ns.tracking.video.landmark_embedding import LandmarkEmbedding

_IRIS_RIM = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Directions of the four rim landmarks, (to the subject's left, up), in the detector's order."""
_IRIS_UNCERTAINTY = 0.0005
"""Metres."""
_MISS_PENALTY = 1e-3
"""Metres for each pixel between a landmark and the nearest pixel that shows skin."""


def skin_faces(model: HeadModel) -> Bool[np.ndarray, "faces"]:
    """Faces on which landmarks may lie: neither eyeballs nor the inside of the mouth."""
    other = (model.skinning_weights[:, 3:].sum(-1) > 0.5) | (model.regions["inside_mouth"] > 0.5)
    return ~other.numpy()[model.faces.numpy()].any(-1)


@dataclass(frozen=True)
class TracedView:
    """The surface points under the landmarks of one image."""

    vertices: Int[np.ndarray, "landmarks 3"]
    weights: Float[np.ndarray, "landmarks 3"]
    points: Float[np.ndarray, "landmarks 3"]
    """Positions on the rest head, metres."""
    missed: Float[np.ndarray, "landmarks"]
    """Distance between the landmark and the nearest pixel that shows skin, pixels."""


def trace_landmarks(
    pixels: Float[np.ndarray, "landmarks 2"],
    visible: Visible,
    width: int,
    skin: Bool[np.ndarray, "faces"],
    rest: Float[np.ndarray, "verts 3"],
) -> TracedView:
    """Find the surface points under the landmarks of one image.

    Args:
        pixels: the landmarks.
        visible: the surface point that each pixel sees.
        width: width of the image, pixels.
        skin: faces on which landmarks may lie.
        rest: vertices of the head on which the points of all views are compared.
    """
    from scipy.spatial import KDTree

    allowed = np.flatnonzero(skin[visible.triangles])
    row, column = np.divmod(visible.samples[allowed], width)
    distance, nearest = KDTree(np.stack([column + 0.5, row + 0.5], -1)).query(pixels)
    chosen = allowed[nearest]
    vertices, weights = visible.corners[chosen], visible.weights[chosen].astype(np.float64)
    return TracedView(vertices, weights, np.einsum("lk,lkc->lc", weights, rest[vertices]), distance)


def most_central(views: list[TracedView]) -> LandmarkEmbedding:
    """Choose for each landmark the point of the view that is nearest to the median over all views."""
    points = np.stack([view.points for view in views])
    missed = np.stack([view.missed for view in views])
    distance = np.linalg.norm(points - np.median(points, 0), axis=-1)
    nearest = (distance + _MISS_PENALTY * missed).argmin(0)
    landmarks = np.arange(NUM_LANDMARKS)
    return LandmarkEmbedding(
        np.stack([view.vertices for view in views])[nearest, landmarks],
        np.stack([view.weights for view in views])[nearest, landmarks],
        np.median(distance, 0),
    )


def construct_irises(model: HeadModel, embedding: LandmarkEmbedding) -> LandmarkEmbedding:
    """Replace the irises by constructed ones: where the axes through the eyeball's centre leave its surface."""
    vertices, weights, spread = embedding.vertices.copy(), embedding.weights.copy(), embedding.spread.copy()
    rim = [(np.sin(IRIS_ANGLE) * a, np.sin(IRIS_ANGLE) * b, np.cos(IRIS_ANGLE)) for a, b in _IRIS_RIM]
    for joint, part in ((3, IRIS_LEFT), (4, IRIS_RIGHT)):
        vertices[part], weights[part] = _intersect_eyeball(model, joint, np.array([(0.0, 0.0, 1.0), *rim]))
        spread[part] = _IRIS_UNCERTAINTY
    return LandmarkEmbedding(vertices, weights, spread)


def _intersect_eyeball(
    model: HeadModel, joint: int, directions: Float[np.ndarray, "directions 3"]
) -> tuple[Int[np.ndarray, "directions 3"], Float[np.ndarray, "directions 3"]]:
    """Vertex triples and weights of the points where rays from an eyeball's centre leave it."""
    verts = model.template.numpy().astype(np.float64)
    centre = model.joint_regressor[joint].numpy() @ verts
    ball = model.skinning_weights[:, joint].numpy() > 0.5
    faces = model.faces.numpy()
    faces = faces[ball[faces].all(-1)]
    inverse = np.linalg.inv((verts[faces] - centre).transpose(0, 2, 1) + 1e-12 * np.eye(3))
    weights = np.einsum("fab,db->dfa", inverse, directions)
    weights /= weights.sum(-1, keepdims=True) + 1e-12
    ahead = np.einsum("dfk,fkc,dc->df", weights, verts[faces] - centre, directions)
    chosen = np.where(ahead > 0, weights.min(-1), -np.inf).argmax(-1)
    return faces[chosen], weights[np.arange(len(directions)), chosen]
