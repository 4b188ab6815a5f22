"""Export of an avatar: meshes of a motion, the coloured canonical mesh, a track of head states, and the engine head.

Meshes contain none of the head model's arrays: each is one person in one head state. Meshes have the head model's
topology, and the blendshapes of the engine head are combinations of its directions, so its licence is written with
them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from partnerface_ns.common.atomic import atomic_write, write_bytes, write_text
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable
from partnerface_ns.common.npz_file import write_npz
from partnerface_ns.common.progress import progress
from partnerface_ns.driving.engine_head.animation import animate
from partnerface_ns.driving.engine_head.gltf import to_glb
from partnerface_ns.driving.engine_head.head import build_engine_head
from partnerface_ns.driving.engine_head.page import build_page
from partnerface_ns.driving.output import looks_like_a_file
from partnerface_ns.driving.player import Player
from partnerface_ns.driving.tracks import NEUTRAL_NAME
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.rendering.rays import Rays

_MESH = re.compile(r"\d{5,}\.obj")
_EXPORTED = re.compile(
    r"\d{5,}\.obj|LICENSE_OF_THE_MESH\.txt|(parts|colors)\.ply|(track|neutral)\.csv|track\.npz|head\.(glb|html)|\..*"
)
"""Names of exported files and of hidden files."""
_RAY_START = 0.05
"""Metres above the surface where the ray to a vertex starts: above hair, inside the scene."""


def check_folder(folder: Path) -> None:
    """Check that a folder can be exported to.

    Raises:
        InputError: it is a file, holds files that no export wrote, or is not writable.
    """
    if folder.is_file() or looks_like_a_file(folder):
        kind = "is a file" if folder.exists() else "is a file's name"
        raise InputError(folder, kind, expected="a folder, because an export writes several files")
    others = [path.name for path in folder.iterdir() if not _EXPORTED.fullmatch(path.name)] if folder.is_dir() else []
    if others:
        listed = f"{min(others)} and {len(others) - 1} more" if len(others) > 1 else others[0]
        raise InputError(folder, "is in use", expected="a new or empty folder, or an earlier export", actual=listed)
    require_writable(folder)


def export_meshes(folder: Path, player: Player, states: HeadState) -> None:
    """Write the person's mesh of every frame as `00000.obj`, `00001.obj` and so on (world frame, metres).

    Args:
        folder: the folder, which is created. Meshes of an earlier export are removed.
        player: the avatar.
        states: batch axes (timesteps,).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if _MESH.fullmatch(path.name):
            path.unlink()
    _write_licence(folder, player)
    head = player.head
    faces = "".join(f"f {a} {b} {c}\n" for a, b, c in (head.model.faces + 1).tolist())
    for index in progress(range(len(states)), "Writing meshes"):
        verts = head.pose(states[index].to(player.device)).verts.cpu().numpy()
        lines = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in verts.tolist())
        write_text(folder / f"{index:05d}.obj", lines + faces)


def export_parts(folder: Path, player: Player) -> None:
    """Write the canonical mesh twice: coloured by part (`parts.ply`) and by rendered colour (`colors.ply`)."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_licence(folder, player)
    verts = player.avatar.skinning.canonical.verts.cpu().numpy()
    faces = player.head.model.faces.cpu().numpy()
    for name, colors in zip(("parts", "colors"), _vertex_colors(player), strict=True):
        write_ply(folder / f"{name}.ply", verts, faces, colors)


def export_track(folder: Path, player: Player, states: HeadState, fps: float) -> None:
    """Write head states as `track.csv` (one row per frame) and `track.npz` (one array per field), radians and metres.

    `neutral.csv`, and the arrays `neutral_...` of the npz, hold the avatar's neutral state. Either can drive an avatar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    neutral = HeadState.stack([player.neutral])
    _write_table(folder / NEUTRAL_NAME, player, neutral, {})
    _write_table(folder / "track.csv", player, states, {"time": np.arange(len(states)) / fps})
    names = np.array(player.head.model.expression_names)
    arrays = {name: value.numpy() for name, value in states.tensors().items()}
    arrays |= {f"neutral_{name}": value.numpy() for name, value in player.neutral.tensors().items()}
    write_npz(folder / "track.npz", arrays | {"fps": np.array(fps), "expression_names": names})


def _write_table(path: Path, player: Player, states: HeadState, first: dict[str, np.ndarray]) -> None:
    """Write head states as a CSV, after the columns `first`."""
    names, columns = [*first], [values[:, None] for values in first.values()]
    for field, values in states.tensors().items():
        columns.append(values.numpy())
        numbered = [f"{field}_{i}" for i in range(values.shape[-1])]
        names += player.head.model.expression_names if field == "expression" else numbered
    table, header = np.concatenate(columns, 1), ",".join(names)
    with atomic_write(path) as partial:
        np.savetxt(partial, table, "%.7g", ",", header=header, comments="")


def write_ply(
    path: Path,
    verts: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    colors: UInt8[np.ndarray, "verts 3"],
) -> None:
    """Write a coloured mesh as a binary PLY."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(verts)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {color}" for color in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    points = np.zeros(len(verts), [("position", "<f4", 3), ("color", "u1", 3)])
    points["position"], points["color"] = verts, colors
    triangles = np.zeros(len(faces), [("count", "u1"), ("index", "<i4", 3)])
    triangles["count"], triangles["index"] = 3, faces
    write_bytes(path, "\n".join(header).encode() + points.tobytes() + triangles.tobytes())


@torch.no_grad()
def _vertex_colors(player: Player) -> list[UInt8[np.ndarray, "verts 3"]]:
    """Part colour and rendered colour of each vertex, along its normal, with a neutral face."""
    head, state = player.head, HeadState.stack([player.neutral]).to(player.device)
    verts = head.pose(state).verts[0]
    normals = vertex_normals(verts, head.model.faces)
    rays = Rays((verts + _RAY_START * normals)[None], -normals[None])
    output = player.avatar.render(rays, state).squeeze_frame()
    opacity = output.accumulation.clamp(min=1e-3)
    rgb = (output.rgb - (1 - opacity) * player.avatar.get_buffer("background")) / opacity
    to_bytes = lambda v: (v.float().clamp(0, 1) * 255).round().byte().cpu().numpy()  # noqa: E731
    return [to_bytes(output.channels()["parts"] / opacity), to_bytes(rgb)]


def export_head(
    folder: Path, player: Player, texture_size: int, page: bool, animations: Sequence[tuple[HeadState, float, str]]
) -> None:
    """Write the engine head as `head.glb`, or as the page `head.html`.

    Args:
        folder: the folder, which is created.
        player: the avatar.
        texture_size: side of the texture, texels.
        page: whether to write the page.
        animations: head states, batch axes (timesteps,), frames per second and name of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    head = build_engine_head(player, texture_size)
    glb = to_glb(head, [animate(head, player, *motion) for motion in animations], _licence(player))
    _write_licence(folder, player)
    if page:
        write_text(folder / "head.html", build_page(glb))
    else:
        write_bytes(folder / "head.glb", glb)


def _write_licence(folder: Path, player: Player) -> None:
    write_text(folder / "LICENSE_OF_THE_MESH.txt", _licence(player) + "\n")


def _licence(player: Player) -> str:
    """The licence of meshes with the head model's topology."""
    model = player.head.model
    terms = (
        "is CC0: free for any use."
        if model.fingerprint == load_open_head().fingerprint
        else "has its own licence, which also covers meshes of its topology and blendshapes made of its directions. "
        "FLAME's licences allow research only, unless yours states otherwise."
    )
    return f"These meshes have the topology of the head model {model.name}. It {terms}"
