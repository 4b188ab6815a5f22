"""Names of deformation parts: the facial landmark nearest to a part's centre."""

from __future__ import annotations

from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel


def name_parts(
    model: HeadModel, verts_canonical: Float[Tensor, "verts 3"], seeds: Float[Tensor, "parts 3"]
) -> list[str]:
    """A unique name for each part: `mouth`, `left eye`, `crown 1`, `crown 2`.

    Left and right are the person's. For a head model without lips or eyelids the names are `part 1`, `part 2`.

    Args:
        model: gives the regions.
        verts_canonical: the canonical head's vertices, metres, y up and z out of the face.
        seeds: part centres, canonical frame, metres.
    """
    landmarks = _landmarks(model, verts_canonical)
    if not landmarks:
        return [f"part {k + 1}" for k in range(len(seeds))]
    nearest = torch.cdist(seeds, torch.stack(list(landmarks.values()))).argmin(1).tolist()
    names = [list(landmarks)[index] for index in nearest]
    total, used = Counter(names), Counter()
    for k, name in enumerate(names):
        used[name] += 1
        names[k] = name if total[name] == 1 else f"{name} {used[name]}"
    return names


def _landmarks(model: HeadModel, verts: Float[Tensor, "verts 3"]) -> dict[str, Float[Tensor, "3"]]:
    """Named points on the head's surface, canonical frame, metres; empty where regions are missing."""
    inside = {name: region > 0.5 for name, region in model.regions.items()}
    x = verts[:, 0]
    middle = verts[inside["head"]].mean(0)[0]
    sides = {"left": x > middle, "right": x < middle}
    regions = {"mouth": inside["lips"]}
    regions |= {f"{side} eye": inside["eyelids"] & half for side, half in sides.items()}
    regions |= {f"{side} ear": inside["ears"] & half for side, half in sides.items()}
    if not all(bool(region.any()) for region in regions.values()):
        return {}
    landmarks = {name: verts[region].mean(0) for name, region in regions.items()}
    head = verts[inside["head"]]
    mouth, left, right = landmarks["mouth"], landmarks["left eye"], landmarks["right eye"]
    eyes = (left + right) / 2
    face_height, front, half_width = eyes[1] - mouth[1], mouth[2], left[0] - middle

    def beside(width: float, above: float, in_front: float) -> Tensor:
        """A point beside the mouth.

        Args:
            width: sideways from the face's middle, in half distances between the eyes.
            above: above the mouth, in distances from mouth to eyes.
            in_front: in front of the eyes, in distances from mouth to eyes.
        """
        y, z = mouth[1] + above * face_height, eyes[2] + in_front * face_height
        return torch.stack([middle + width * half_width, y, z])

    guesses = {
        "nose": torch.stack([middle, mouth[1] + face_height / 2, front + face_height / 4]),
        "chin": torch.stack([middle, mouth[1] - 0.7 * face_height, front]),
        "forehead": torch.stack([middle, eyes[1] + 0.7 * face_height, eyes[2] + face_height / 4]),
        "left cheek": beside(1.6, 0.3, -0.3),
        "right cheek": beside(-1.6, 0.3, -0.3),
        "left jaw": beside(1.6, -0.4, -0.8),
        "right jaw": beside(-1.6, -0.4, -0.8),
        "crown": head[head[:, 1].argmax()],
        "back of the head": head[head[:, 2].argmin()],
        "throat": torch.stack([middle, mouth[1] - face_height, eyes[2] - face_height]),
    }
    for name, guess in guesses.items():
        landmarks[name] = head[(head - guess).norm(dim=1).argmin()]
    return landmarks
