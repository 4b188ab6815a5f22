"""Draw the images of docs/driving.md and docs/viewer.md from a trained demo run.

    partnerface demo --output demo
    python scripts/draw_docs.py demo/runs/partnerface-lite/demo

Writes docs/images/channels.jpg and docs/images/viewer.jpg. The demo's person is synthetic: no image of a real one may
lie in the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

import partnerface_ns
from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.driving.player import Player, scaled_camera
from partnerface_ns.flame.state import HeadState
from partnerface_ns.plugin.page import MutedPart, compute_part_share, fade_other_parts
from partnerface_ns.rendering.figures import arrange_sheet, to_image
from partnerface_ns.rendering.overlay import draw_mesh_overlay

SIZE = 192
IMAGES = Path(__file__).parents[1] / "docs" / "images"
RgbImage = UInt8[np.ndarray, "height width 3"]
CHANNELS = {
    "at rest": {},
    "mouthSmile 0.8": {"mouthSmile": 0.8},
    "jaw 0.25": {"jaw": 0.25},
    "gaze_yaw 0.5": {"gaze_yaw": 0.5},
    "eyeBlink 1": {"eyeBlink": 1.0},
    "yaw 0.4": {"yaw": 0.4},
}


def channels(player: Player) -> list[RgbImage]:
    """The face with one channel each, in rows."""
    camera = scaled_camera(player.camera, SIZE)
    images = [to_image(player.render(camera, player.face(**values))["rgb"]) for values in CHANNELS.values()]
    return in_two_rows(list(CHANNELS), images)


def views(player: Player) -> dict[str, RgbImage]:
    """What a viewer page can show of a smile."""
    camera, state = scaled_camera(player.camera, SIZE), player.face(mouthSmile=0.8, cheekSquint=0.4)
    muted = MutedPart(player.avatar)
    found = player.render(camera, state)
    part = int(np.argmax([float(compute_part_share(player.avatar, found, k).sum()) for k in range(_num_parts(player))]))
    with muted.mute(part):
        without = player.render(camera, state)["rgb"]
    return {
        "rgb": to_image(found["rgb"]),
        "parts": to_image(found["parts"]),
        "deformation": to_image(found["deformation"]),
        f"part {part} solo": to_image(fade_other_parts(found["rgb"], compute_part_share(player.avatar, found, part))),
        f"part {part} muted": to_image(without),
        "mesh": _mesh(player, state, to_image(found["rgb"])),
    }


def in_two_rows(names: list[str], images: list[RgbImage]) -> list[RgbImage]:
    """Six named images, three in a row."""
    return [arrange_sheet([images[start : start + 3]], names[start : start + 3]) for start in (0, 3)]


def _num_parts(player: Player) -> int:
    return player.avatar.config.num_parts


def _mesh(player: Player, state: HeadState, image: RgbImage) -> RgbImage:
    head, camera = player.person, scaled_camera(player.camera, SIZE)
    nothing = np.zeros(image.shape[:2], np.uint8)
    return draw_mesh_overlay(image, nothing, head.pose(state).verts.numpy(), head.model.faces.numpy(), camera, SIZE)


def save(name: str, rows: list[RgbImage]) -> None:
    """Write rows below each other as a JPEG."""
    IMAGES.mkdir(exist_ok=True)
    with atomic_write(IMAGES / f"{name}.jpg") as partial:
        Image.fromarray(np.concatenate(rows)).save(partial, format="JPEG", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of the demo's person")
    player = partnerface_ns.load(parser.parse_args().run)
    save("channels", channels(player))
    shown = views(player)
    save("viewer", in_two_rows(list(shown), list(shown.values())))
    print(f"Drawn in {IMAGES}: channels.jpg, viewer.jpg")


if __name__ == "__main__":
    main()
