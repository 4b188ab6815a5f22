"""Makes the landmark files that ship with the package: where the 478 landmarks lie on the open head, and their mirror.

Run it again when the open head changes: `python scripts/build_landmarks.py`. It needs the `track` extra.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking import embedding, landmarks

ASSETS = Path(embedding.__file__).parent / "assets"


def mirror_of(model: HeadModel) -> np.ndarray:
    """For each landmark the one on the other side: where it is found in mirrored pictures."""
    distance = np.zeros((landmarks.NUM_LANDMARKS, landmarks.NUM_LANDMARKS))
    with landmarks.LandmarkDetector(follow=False, mirrored=False) as detect:
        for picture, _ in embedding.draw_views(model):
            found, mirrored = detect(picture), detect(np.ascontiguousarray(picture[:, ::-1]))
            if found is not None and mirrored is not None:
                flipped = mirrored[0] * (-1, 1, 1) + (picture.shape[1], 0, 0)
                distance += np.linalg.norm(found[0][:, None] - flipped[None], axis=-1)
    first, second = linear_sum_assignment(distance)
    mirror = np.empty(len(distance), dtype=np.int16)
    mirror[first] = second
    if (mirror[mirror] != np.arange(len(mirror))).any():
        raise SystemExit("the landmarks are not symmetric enough to be paired")
    return mirror


def main() -> None:
    model = load_open_head()
    found = embedding.embed_landmarks(model)
    for old in ASSETS.glob("landmarks_*.npz"):
        old.unlink()
    embedding.write_embedding(found, ASSETS / f"landmarks_{model.fingerprint}.npz")
    np.savez(ASSETS / "landmark_mirror.npz", mirror=mirror_of(model))


if __name__ == "__main__":
    main()
