"""The page of `partnerface create`: images before and after, the clip, figures in words, advice, and next commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.command_lines import command, commands_after_training
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.capture.json_object import JsonObject

NUM_SHOWN = 4
"""Held-out images on the page, evenly spread over those that were evaluated."""
Grade = tuple[float, str]
"""A limit and the words for values on its good side."""
_LANDMARKS: Sequence[Grade] = ((1.3, "The head follows the face closely"), (3.0, "The head follows the face roughly"))
_SILHOUETTE: Sequence[Grade] = ((2.5, "its outline fits that of the person"), (6.0, "its outline is a little off"))
_JITTER: Sequence[Grade] = ((0.4, "it is steady while the face is still"), (1.0, "it trembles slightly"))
"""Limits of docs/own-video.md, pixels at 512 x 512."""
_PSNR: Sequence[Grade] = (
    (26.0, "hard to tell from the video"),
    (23.0, "close to the video; fine detail is softer"),
    (20.0, "recognisable; skin, hair and teeth are blurred"),
)
"""Words for the PSNR of an image over the head, dB."""
_PREVIEW = '\n<p>See <a href="capture/preview.mp4">the tracked head over the video</a>.</p>'
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ddd, #444); --soft: light-dark(#666, #aaa) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem }
h2 { font-size: 1.2rem; margin-top: 2rem; border-top: 1px solid var(--line); padding-top: 1rem }
figure { margin: 0 } figcaption, .soft { color: var(--soft); font-size: .9rem }
.images { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)) }
img, video { width: 100%; border-radius: 6px; background: #fff } video { max-width: 32rem }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid var(--line); border-radius: 6px; font-size: .85rem }
"""


def write_page(folder: Path, run: Path, minutes: float) -> None:
    """Write `index.html` from what the stages wrote.

    Args:
        folder: the folder of the command.
        run: the run.
        minutes: minutes of training.

    Raises:
        InputError: a result of an earlier stage cannot be read.
    """
    from partnerface_ns.capture.json_object import JsonObject

    tracking = JsonObject.read(folder / "capture" / "tracking.json")
    held_out = JsonObject.read(folder / "held_out.json")
    rows = [row.values for row in held_out.children("images")]
    advice = [str(line) for line in tracking.values.get("warnings", [])]
    sections = [
        ("The avatar talks", '<video src="talk.mp4" controls autoplay loop muted playsinline></video>'),
        ("Images that training did not see", _images(held_out)),
        ("How good it is", _list([*tracking_in_words(tracking.values), *quality_in_words(rows, minutes)]) + _PREVIEW),
        ("What to film better", _list(advice) if advice else "<p>Nothing: the footage shows what an avatar needs.</p>"),
        ("What is next", _commands(run)),
    ]
    body = "\n".join(f"<section>\n<h2>{title}</h2>\n{content}\n</section>" for title, content in sections)
    name = escape(folder.resolve().name)
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f"<head>{meta}<title>{name}: avatar</title><style>{_STYLE}</style></head>"
    page = f'<!doctype html>\n<html lang="en">\n{head}\n<body>\n<h1>{name}</h1>\n{body}\n</body>\n</html>\n'
    write_text(folder / "index.html", page)


def tracking_in_words(tracking: Mapping[str, Any]) -> list[str]:
    """Sentences about the track, from the content of `tracking.json`."""
    kept, total = tracking["frames_tracked"], tracking["frames_total"]
    first = f"{kept} of {total} frames are used."
    landmarks = _grade(tracking["landmark_px_median"], _LANDMARKS, "The head does not follow the face well")
    outline = _grade(tracking["silhouette_px_mean"], _SILHOUETTE, "its outline does not fit that of the person")
    jitter = _grade(tracking["jitter_px"], _JITTER, "it trembles visibly")
    parts = "; ".join(part for part in (landmarks, outline, jitter) if part is not None)
    return [first, f"{parts}." if parts else "The fit could not be measured."]


def quality_in_words(rows: Sequence[Mapping[str, Any]], minutes: float) -> list[str]:
    """Sentences about the held-out images, from their metrics.

    Args:
        rows: metrics of each image; None where the image does not show the region.
        minutes: minutes of training.
    """
    psnr, mouth, eyes = (_mean([row.get(name) for row in rows]) for name in ("psnr_head", "psnr_mouth", "psnr_eyes"))
    if psnr is None:
        return ["No held-out image shows the head, so the avatar could not be measured."]
    level = next((words for limit, words in _PSNR if psnr >= limit), "rough and blurred")
    lines = [
        f"On {len(rows)} images that training did not see, the head is {level} (PSNR {psnr:.1f} dB after "
        f"{minutes:g} minutes of training)."
    ]
    if mouth is not None and eyes is not None:
        lines.append(f"Mouth: {mouth:.1f} dB. Eyes: {eyes:.1f} dB. Six decibels more halve the error.")
    return [*lines, "The same command with more --minutes trains on."]


def _grade(value: float | None, grades: Sequence[Grade], worst: str) -> str | None:
    """Words for a distance in pixels; None if it was not measured."""
    if value is None:
        return None
    words = next((words for limit, words in grades if value <= limit), worst)
    return f"{words} ({value:.2g} px)"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _images(held_out: JsonObject) -> str:
    """Evaluated images, each a video frame beside the avatar."""
    from partnerface_ns.common.sequences import pick_evenly

    rows = held_out.children("images")
    figures = []
    for position in pick_evenly(range(len(rows)), NUM_SHOWN):
        index, row = held_out.values["indices"][position], rows[position]
        if not isinstance(index, int):
            raise InputError(held_out.source, "wrong value", key="indices", expected="numbers of images", actual=index)
        psnr = row.values.get("psnr_head")
        figure = f"PSNR of the head {psnr:.1f} dB" if isinstance(psnr, float) else "without a head"
        caption = f"{escape(row.text('image'))}: video and avatar. {figure}"
        source = f"held_out/eval_img_{index:04d}.png"
        figures.append(f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>')
    note = '<p class="soft">Left: the video. Right: the avatar in the same pose.</p>'
    return f'{note}\n<div class="images">\n' + "\n".join(figures) + "\n</div>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "\n</ul>"


def _commands(run: Path) -> str:
    """The next commands, each with what it does."""
    viewer, _, report, _ = commands_after_training(run)
    steps = [
        ("Watch it in the browser", command("partnerface", "live", run, "--motion", "talk")),
        ("Drive it by another video", command("partnerface", "drive", run, "OTHER_VIDEO", "--output", "driven.mp4")),
        ("Move it with sliders", viewer),
        ("See its worst images", report),
        ("Make a page with sliders for others", command("partnerface", "export", run, "--what", "page")),
        ("Use it in an engine", command("partnerface", "export", run, "--what", "glb")),
    ]
    return "\n".join(f"<p>{title}:</p>\n<pre>{escape(line)}</pre>" for title, line in steps)
