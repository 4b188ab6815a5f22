"""Draw the images of README.md, docs/driving.md and docs/viewer.md from a demo run.

    partnerface demo --output demo
    python scripts/draw_docs.py demo

Writes demo.webp, channels.jpg and viewer.jpg to docs/images/. The subject of the demo is synthetic; the repository
contains no image of a real person.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8
from PIL import Image

import partnerface_ns
from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.driving.player import Player, scale_camera
from partnerface_ns.flame.state import HeadState
from partnerface_ns.plugin.page import MutedPart, compute_part_share, fade_other_parts
from partnerface_ns.rendering.figures import arrange_sheet, to_image
from partnerface_ns.rendering.overlay import draw_mesh_overlay

SIZE = 192
IMAGES = Path(__file__).parents[1] / "docs" / "images"
CLIP_QUALITY = 60
"""WebP quality of the README's clip."""
RgbImage = UInt8[np.ndarray, "height width 3"]
CHANNELS = {
    "at rest": {},
    "mouthSmile 0.8": {"mouthSmile": 0.8},
    "jaw 0.25": {"jaw": 0.25},
    "gaze_yaw 0.5": {"gaze_yaw": 0.5},
    "eyeBlink 1": {"eyeBlink": 1.0},
    "yaw 0.4": {"yaw": 0.4},
}


def draw_channels(player: Player) -> list[RgbImage]:
    """Rows of images of the face, each with one channel set."""
    camera = scale_camera(player.camera, SIZE)
    images = [to_image(player.render(camera, player.face(**values))["rgb"]) for values in CHANNELS.values()]
    return two_rows(list(CHANNELS), images)


def draw_viewer(player: Player) -> list[RgbImage]:
    """Rows of the images that a viewer page can show of a smile."""
    camera, state = scale_camera(player.camera, SIZE), player.face(mouthSmile=0.8, cheekSquint=0.4)
    outputs = player.render(camera, state)
    shares = [compute_part_share(player.avatar, outputs, k) for k in range(player.avatar.config.num_parts)]
    part = int(np.argmax([float(share.sum()) for share in shares]))
    with MutedPart(player.avatar).mute(part):
        without_part = player.render(camera, state)["rgb"]
    rgb = to_image(outputs["rgb"])
    images = {
        "rgb": rgb,
        "parts": to_image(outputs["parts"]),
        "deformation": to_image(outputs["deformation"]),
        f"part {part} solo": to_image(fade_other_parts(outputs["rgb"], shares[part])),
        f"part {part} muted": to_image(without_part),
        "mesh": draw_mesh(player, state, rgb),
    }
    return two_rows(list(images), list(images.values()))


def two_rows(names: list[str], images: list[RgbImage]) -> list[RgbImage]:
    """Two rows of three named images each."""
    return [arrange_sheet([images[start : start + 3]], names[start : start + 3]) for start in (0, 3)]


def draw_mesh(player: Player, state: HeadState, image: RgbImage) -> RgbImage:
    """The posed mesh over an image, without a mask."""
    head, camera = player.person, scale_camera(player.camera, SIZE)
    no_mask = np.zeros(image.shape[:2], np.uint8)
    return draw_mesh_overlay(image, no_mask, head.pose(state).verts.numpy(), head.model.faces.numpy(), camera, SIZE)


def convert_clip(video: Path) -> None:
    """Write the README's clip, an animated WebP, from a video."""
    frames = imageio_ffmpeg.read_frames(str(video))
    properties = next(frames)
    images = [Image.frombytes("RGB", properties["size"], frame) for frame in frames]
    options = {"duration": round(1000 / properties["fps"]), "loop": 0, "quality": CLIP_QUALITY, "method": 6}
    with atomic_write(IMAGES / "demo.webp") as partial:
        images[0].save(partial, format="WEBP", save_all=True, append_images=images[1:], **options)


def save_rows(name: str, rows: list[RgbImage]) -> None:
    """Write rows below each other as a JPEG."""
    with atomic_write(IMAGES / f"{name}.jpg") as partial:
        Image.fromarray(np.concatenate(rows)).save(partial, format="JPEG", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="output folder of `partnerface demo`")
    demo = parser.parse_args().demo
    IMAGES.mkdir(exist_ok=True)
    convert_clip(demo / "unseen.mp4")
    player = partnerface_ns.load(demo / "runs" / "partnerface-lite" / "demo")
    save_rows("channels", draw_channels(player))
    save_rows("viewer", draw_viewer(player))
    print(f"Written to {IMAGES}: demo.webp, channels.jpg, viewer.jpg")


if __name__ == "__main__":
    main()
