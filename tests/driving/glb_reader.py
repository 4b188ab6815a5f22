"""Reads what a GLB file describes, and poses its mesh, as an engine does."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

DTYPES = {5126: np.float32, 5121: np.uint8, 5123: np.uint16, 5125: np.uint32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """The content of a GLB file."""

    def __init__(self, content: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON" and size % 4 == 0
        self.document: dict[str, Any] = json.loads(content[20 : 20 + size])
        binary, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0" and binary == self.document["buffers"][0]["byteLength"]
        self.binary = content[28 + size :]
        assert len(self.binary) == binary
        self.mesh = self.document["meshes"][0]["primitives"][0]
        self.nodes = self.document["nodes"]

    def view(self, index: int) -> bytes:
        view = self.document["bufferViews"][index]
        return self.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def array(self, index: int) -> np.ndarray:
        """An accessor's values, (count, width); its bounds are those of its values."""
        accessor = self.document["accessors"][index]
        width, dtype = WIDTHS[accessor["type"]], DTYPES[accessor["componentType"]]
        if "bufferView" in accessor:
            values = np.frombuffer(self.view(accessor["bufferView"]), dtype).reshape(-1, width)
        else:
            values = np.zeros((accessor["count"], width), dtype)
            sparse = accessor["sparse"]
            rows = np.frombuffer(self.view(sparse["indices"]["bufferView"]), DTYPES[sparse["indices"]["componentType"]])
            assert len(rows) == sparse["count"] and (np.diff(rows.astype(int)) > 0).all()
            values[rows] = np.frombuffer(self.view(sparse["values"]["bufferView"]), dtype).reshape(-1, width)
        assert len(values) == accessor["count"]
        if "min" in accessor:
            assert accessor["min"] == values.min(0).tolist() and accessor["max"] == values.max(0).tolist()
        return values

    def blendshapes(self) -> dict[str, np.ndarray]:
        names = self.document["meshes"][0]["extras"]["targetNames"]
        return dict(zip(names, (self.array(t["POSITION"]) for t in self.mesh["targets"]), strict=True))

    def pose(self, added: np.ndarray | float = 0.0, nodes: dict[int, dict[str, Any]] | None = None) -> np.ndarray:
        """Skinned vertices.

        Args:
            added: displacement of the rest pose.
            nodes: changed properties of nodes.
        """
        skin, attributes = self.document["skins"][0], self.mesh["attributes"]
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        moves = np.stack([self.world(j, nodes or {}) for j in skin["joints"]]) @ inverse
        rest = self.array(attributes["POSITION"]) + added
        weights, joints = self.array(attributes["WEIGHTS_0"]), self.array(attributes["JOINTS_0"])
        blended = np.einsum("vk,vkab->vab", weights, moves[joints])
        return np.einsum("vab,vb->va", blended[:, :3, :3], rest) + blended[:, :3, 3]

    def world(self, node: int, changed: dict[int, dict[str, Any]]) -> np.ndarray:
        properties = self.nodes[node] | changed.get(node, {})
        T = np.eye(4)
        T[:3, :3] = Rotation.from_quat(properties["rotation"]).as_matrix()
        T[:3, 3] = properties["translation"]
        parents = [i for i, other in enumerate(self.nodes) if node in other.get("children", [])]
        return self.world(parents[0], changed) @ T if parents else T
