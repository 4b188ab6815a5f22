"""Names of deformation parts for people: the place of the face that a part's centre is nearest to."""

from __future__ import annotations

from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel


def name_parts(
    model: HeadModel, verts_canonical: Float[Tensor, "verts 3"], seeds: Float[Tensor, "parts 3"]
) -> list[str]:
    """One name a part, all different: `mouth`, `left eye`, `crown 1`, `crown 2`.

    Left and right are the person's. A head model without lips or eyelids gives `part 1`, `part 2`.

    Args:
        model: gives the regions.
        verts_canonical: the canonical head's vertices, metres, y up and z out of the face.
        seeds: part centres, canonical frame, metres.
    """
    places = _places(model, verts_canonical)
    if not places:
        return [f"part {k + 1}" for k in range(len(seeds))]
    nearest = torch.cdist(seeds, torch.stack(list(places.values()))).argmin(1).tolist()
    names = [list(places)[place] for place in nearest]
    total, used = Counter(names), Counter()
    for k, name in enumerate(names):
        used[name] += 1
        names[k] = name if total[name] == 1 else f"{name} {used[name]}"
    return names


def _places(model: HeadModel, verts: Float[Tensor, "verts 3"]) -> dict[str, Float[Tensor, "3"]]:
    """Named places on the head's surface, canonical frame; none where the regions do not say enough."""
    inside = {name: region > 0.5 for name, region in model.regions.items()}
    x = verts[:, 0]
    middle = verts[inside["head"]].mean(0)[0]
    sides = {"left": x > middle, "right": x < middle}
    known = {"mouth": inside["lips"]}
    known |= {f"{side} eye": inside["eyelids"] & where for side, where in sides.items()}
    known |= {f"{side} ear": inside["ears"] & where for side, where in sides.items()}
    if not all(bool(where.any()) for where in known.values()):
        return {}
    places = {name: verts[where].mean(0) for name, where in known.items()}
    head = verts[inside["head"]]
    mouth, left, right = places["mouth"], places["left eye"], places["right eye"]
    eyes = (left + right) / 2
    up, front, half = eyes[1] - mouth[1], mouth[2], left[0] - middle

    def beside(width: float, above: float, before: float) -> Tensor:
        """In half distances of the eyes from the middle; in distances from mouth to eyes above and before these."""
        return torch.stack([middle + width * half, mouth[1] + above * up, eyes[2] + before * up])

    guesses = {
        "nose": torch.stack([middle, mouth[1] + up / 2, front + up / 4]),
        "chin": torch.stack([middle, mouth[1] - 0.7 * up, front]),
        "forehead": torch.stack([middle, eyes[1] + 0.7 * up, eyes[2] + up / 4]),
        "left cheek": beside(1.6, 0.3, -0.3),
        "right cheek": beside(-1.6, 0.3, -0.3),
        "left jaw": beside(1.6, -0.4, -0.8),
        "right jaw": beside(-1.6, -0.4, -0.8),
        "crown": head[head[:, 1].argmax()],
        "back of the head": head[head[:, 2].argmin()],
        "throat": torch.stack([middle, mouth[1] - up, eyes[2] - up]),
    }
    for name, guess in guesses.items():
        places[name] = head[(head - guess).norm(dim=1).argmin()]
    return places
