"""Writing of the engine head as binary glTF 2.0 (GLB): mesh, skin, blendshapes, texture, camera and animations.

The container is written here, because trimesh writes neither skins nor blendshapes. Blendshapes are sparse accessors:
most of them move a small part of the face. The material is unlit, because the texture contains the light of the video.
Source: Khronos, glTF 2.0 specification, and the extension KHR_materials_unlit.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from partnerface_ns.driving.engine_head.animation import Animation, rest_rotations
from partnerface_ns.driving.engine_head.head import EngineHead
from partnerface_ns.flame.joints import JOINT_NAMES, JOINT_PARENTS, Joint

_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_BYTE, _UNSIGNED_SHORT, _UNSIGNED_INT = 5126, 5121, 5123, 5125
_VERTEX_DATA, _TRIANGLES = 34962, 34963
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 2: "VEC2", 16: "MAT4"}
_CODES = {"float32": _FLOAT, "uint8": _UNSIGNED_BYTE, "uint16": _UNSIGNED_SHORT, "uint32": _UNSIGNED_INT}
_JPEG_QUALITY = 92
_STILL = 2e-6
"""Displacement in metres below which a blendshape leaves a vertex out."""
_NUM_INFLUENCES = 4
"""Joints that move one vertex, at most."""
NODE_NAMES = ("root", "neck", "jaw", "eyeLeft", "eyeRight")
"""Names of the joints' nodes, in the order of the head model's joints."""
_MESH_NODE, _CAMERA_NODE = len(NODE_NAMES), len(NODE_NAMES) + 1


class _Buffer:
    """Binary data and the accessors that describe it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_view(self, content: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to 4, and return the index of their view."""
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += content
        return len(self.views) - 1

    def add(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Append an array and return the index of its accessor."""
        array = np.ascontiguousarray(array)
        rows = array.reshape(len(array), -1)
        accessor = _accessor(rows) | {"bufferView": self.add_view(array.tobytes(), target)}
        self.accessors.append(accessor | (_bounds(rows) if bounds else {}))
        return len(self.accessors) - 1

    def add_sparse(self, array: np.ndarray) -> int:
        """Append an array of which most rows are zero and return the index of its accessor."""
        array = array.astype(np.float32)
        moved = np.flatnonzero(np.abs(array).max(1) > _STILL)
        moved = moved if len(moved) else np.array([0])  # glTF requires one row
        kept = np.zeros_like(array)
        kept[moved] = array[moved]
        indices = moved.astype(np.uint16 if len(array) <= 1 << 16 else np.uint32)
        sparse = {
            "count": len(moved),
            "indices": {"bufferView": self.add_view(indices.tobytes()), "componentType": _CODES[indices.dtype.name]},
            "values": {"bufferView": self.add_view(np.ascontiguousarray(array[moved]).tobytes())},
        }
        self.accessors.append(_accessor(kept) | {"sparse": sparse} | _bounds(kept))
        return len(self.accessors) - 1


def to_glb(head: EngineHead, animations: Sequence[Animation] = (), licence: str = "") -> bytes:
    """The content of a GLB file.

    Args:
        head: the engine head.
        animations: any number, for this head.
        licence: copyright text that the file carries.
    """
    buffer = _Buffer()
    jpeg = io.BytesIO()
    Image.fromarray(head.texture).save(jpeg, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    image = buffer.add_view(jpeg.getvalue())
    asset = {"version": "2.0", "generator": "partnerface"} | ({"copyright": licence} if licence else {})
    document = {
        "asset": asset,
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0, _MESH_NODE, _CAMERA_NODE]}],
        "nodes": [*_joint_nodes(head), {"name": "head", "mesh": 0, "skin": 0}, _camera_node(head)],
        "meshes": [_mesh(head, buffer)],
        "skins": [_skin(head, buffer)],
        "cameras": [_camera(head)],
        "materials": [_material()],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "images": [{"bufferView": image, "mimeType": "image/jpeg"}],
    }
    if animations:
        document["animations"] = [_animation(animation, buffer) for animation in animations]
    document |= {"bufferViews": buffer.views, "accessors": buffer.accessors}
    return _container(document, bytes(buffer.data))


def _mesh(head: EngineHead, buffer: _Buffer) -> dict[str, Any]:
    joints, weights = strongest_influences(head.weights)
    normals = head.normals / np.linalg.norm(head.normals, axis=1, keepdims=True).clip(1e-9)
    attributes = {
        "POSITION": buffer.add(head.verts.astype(np.float32), _VERTEX_DATA, bounds=True),
        "NORMAL": buffer.add(normals.astype(np.float32), _VERTEX_DATA),
        "TEXCOORD_0": buffer.add(head.uv.astype(np.float32), _VERTEX_DATA),
        "JOINTS_0": buffer.add(joints, _VERTEX_DATA),
        "WEIGHTS_0": buffer.add(weights, _VERTEX_DATA),
    }
    primitive = {
        "attributes": attributes,
        "indices": buffer.add(head.faces.astype(np.uint32).reshape(-1, 1), _TRIANGLES),
        "material": 0,
        "targets": [{"POSITION": buffer.add_sparse(shape)} for shape in head.blendshapes.values()],
    }
    names = list(head.blendshapes)
    return {
        "name": "head",
        "primitives": [primitive],
        "weights": [0.0] * len(names),
        "extras": {"targetNames": names},
    }


def strongest_influences(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The strongest joints of each vertex, (verts, 4) uint8, and their weights, which sum to one."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :_NUM_INFLUENCES]
    strongest = np.take_along_axis(weights, order, 1).astype(np.float32)
    strongest[strongest < 1e-4] = 0  # a tenth of a millimetre at a motion of a metre
    strongest /= strongest.sum(1, keepdims=True)
    return np.where(strongest > 0, order, 0).astype(np.uint8), strongest


def _joint_nodes(head: EngineHead) -> list[dict[str, Any]]:
    """A node for each joint, with the rotations of the neutral state."""
    rotations = rest_rotations(head.neutral)
    nodes = []
    for joint, name in enumerate(NODE_NAMES):
        parent = JOINT_PARENTS[joint]
        offset = head.joints[joint] - (head.joints[parent] if parent >= 0 else 0)
        node = {"name": name, "translation": offset.astype(float).tolist(), "rotation": rotations[joint].tolist()}
        children = [child for child, above in enumerate(JOINT_PARENTS) if above == joint]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _skin(head: EngineHead, buffer: _Buffer) -> dict[str, Any]:
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(head.joints), 1, 1))
    inverse_bind[:, 3, :3] = -head.joints  # column-major, as glTF stores matrices
    return {"joints": list(range(len(NODE_NAMES))), "skeleton": 0, "inverseBindMatrices": buffer.add(inverse_bind)}


def _camera_node(head: EngineHead) -> dict[str, Any]:
    return {"name": "camera", "camera": 0, "matrix": head.camera.T_world_camera.T.ravel().tolist()}


def _camera(head: EngineHead) -> dict[str, Any]:
    """The field of view of the avatar's camera; glTF has no principal point."""
    camera = head.camera
    yfov = 2 * np.arctan(camera.height / 2 / camera.fl_y)
    perspective = {"yfov": float(yfov), "aspectRatio": camera.width / camera.height, "znear": 0.01, "zfar": 20.0}
    return {"name": "camera", "type": "perspective", "perspective": perspective}


def _material() -> dict[str, Any]:
    return {
        "name": "skin",
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0},
        "extensions": {"KHR_materials_unlit": {}},
        "doubleSided": True,
    }


def _animation(animation: Animation, buffer: _Buffer) -> dict[str, Any]:
    times = buffer.add(animation.times.astype(np.float32).reshape(-1, 1), bounds=True)
    tracks = [(_MESH_NODE, "weights", animation.weights.reshape(-1, 1))]
    tracks += [(Joint.ROOT, "translation", animation.root), (Joint.NECK, "translation", animation.neck)]
    tracks += [(joint, "rotation", animation.rotations[:, joint]) for joint in range(len(JOINT_NAMES))]
    samplers, channels = [], []
    for node, path, values in tracks:
        samplers.append({"input": times, "output": buffer.add(values.astype(np.float32)), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": int(node), "path": path}})
    return {"name": animation.name, "samplers": samplers, "channels": channels}


def _accessor(rows: np.ndarray) -> dict[str, Any]:
    return {"componentType": _CODES[rows.dtype.name], "count": len(rows), "type": _TYPES[rows.shape[1]]}


def _bounds(rows: np.ndarray) -> dict[str, Any]:
    return {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}


def _container(document: dict[str, Any], binary: bytes) -> bytes:
    """A GLB file: header, JSON chunk, binary chunk, each chunk padded to 4 bytes."""
    binary += b"\0" * (-len(binary) % 4)
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", len(binary), _BINARY) + binary
    return struct.pack("<III", _MAGIC, _VERSION, 12 + len(chunks)) + chunks
