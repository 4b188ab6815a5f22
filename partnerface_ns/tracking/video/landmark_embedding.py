"""The 478 face landmarks on the surface of a head model, and the file format that stores them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Each landmark as a weighted triple of vertices."""

    vertices: Int[np.ndarray, "landmarks 3"]
    weights: Float[np.ndarray, "landmarks 3"]
    """Weights of the three vertices; they sum to one."""
    spread: Float[np.ndarray, "landmarks"]
    """Uncertainty of each landmark's position: median distance over the views it was seen in, metres."""

    def points(self, values: Float[np.ndarray, "verts *channels"]) -> Float[np.ndarray, "landmarks *channels"]:
        """Interpolate per-vertex values at the landmarks."""
        return np.einsum("lk,lk...->l...", self.weights, values[self.vertices])


def packaged_embedding(fingerprint: str) -> LandmarkEmbedding | None:
    """Return the embedding that ships with the package for a head model, or None."""
    stored = files("partnerface_ns.tracking.video") / "assets" / f"landmarks_{fingerprint}.npz"
    return read_embedding(Path(str(stored))) if stored.is_file() else None


def write_embedding(embedding: LandmarkEmbedding, path: Path) -> None:
    """Store an embedding; the file appears only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            vertices=embedding.vertices.astype(np.int32),
            weights=embedding.weights.astype(np.float32),
            spread=embedding.spread.astype(np.float32),
        )
    os.replace(partial, path)


def read_embedding(path: Path) -> LandmarkEmbedding:
    """Read an embedding that `write_embedding` stored."""
    with np.load(path, allow_pickle=False) as archive:
        return LandmarkEmbedding(
            archive["vertices"].astype(np.int64), archive["weights"].astype(np.float64), archive["spread"]
        )
