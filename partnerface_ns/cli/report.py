"""`partnerface report`: images and figures of a trained run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from partnerface_ns.common.command_lines import command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from partnerface_ns.cli.runs import Run

NUM_WORST, NUM_MEDIAN, NUM_REFITTED = 5, 3, 10
"""Images in worst.png and median.png, and images of the comparison with refitted ones."""
_ORBIT_SIDE, _ORBIT_COLUMNS = 256, 3
"""Longer side of a view in orbit.png, pixels, and views in a row."""
Rows = Sequence[dict[str, str]]


@dataclass
class Report:
    """Write a report on the quality of a trained run: its worst and median test images, views from all sides, tables.

    Writes worst.png, median.png, orbit.png and figures.md to RUN/report. The first two show the true image, the
    rendered image, the error and the parts; they are ranked by psnr_head. orbit.png shows the neutral face from the
    front, from both sides, from above and from behind. A run that was not evaluated yet is evaluated first.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or the config.yml in it."""
    num_images: int | None = None
    """Number of test images to evaluate, evenly spread; by default all. With it, per_image.csv does not change."""
    refit: bool = False
    """Also compare a few training images, test images, and test images whose pose and expression were fitted to their
    pixels with the avatar frozen. The table in figures.md separates fit, generalisation and registration."""
    output: Path | None = None
    """Folder to write to; by default RUN/report."""
    data: Path | None = None
    """Folder of the capture, if it was moved since training."""
    head_model: Path | None = None
    """Head model file, if it was moved since training."""

    def __call__(self) -> None:
        from partnerface_ns.cli.runs import open_run
        from partnerface_ns.common.atomic import write_text
        from partnerface_ns.common.files import require_writable
        from partnerface_ns.common.progress import progress
        from partnerface_ns.common.sequences import pick_evenly
        from partnerface_ns.rendering.figures import save_image

        if self.num_images is not None and self.num_images < 1:
            raise InputError("--num-images", "out of range", expected="1 or more", actual=self.num_images)
        folder = self.output or (self.run.parent if self.run.is_file() else self.run) / "report"
        if folder.parent.is_dir() or self.output is not None:  # otherwise the run does not exist
            require_writable(folder, "choose another folder with --output")
        print(f"Opening {self.run}", flush=True)
        run = open_run(self.run, self.data, self.head_model)
        total = len(run.image_names())
        indices = pick_evenly(range(total), self.num_images or total)
        rows = run.figures(indices)
        folder.mkdir(parents=True, exist_ok=True)
        worst, median = worst_and_median(rows)
        chosen = list(dict.fromkeys([*worst, *median]))
        print(f"Rendering {len(chosen)} images for the sheets", flush=True)
        images = {row: run.show(indices[row]) for row in progress(chosen, "Rendering")}
        save_image(folder / "worst.png", _sheet(rows, images, worst))
        save_image(folder / "median.png", _sheet(rows, images, median))
        print("Rendering the views of orbit.png", flush=True)
        save_image(folder / "orbit.png", _orbit_sheet(run))
        text = figures_table(rows, worst, median)
        if self.refit:
            print(f"Refitting {NUM_REFITTED} test images", flush=True)
            text += losses_text(*run.losses(NUM_REFITTED))
        write_text(folder / "figures.md", text)
        of_all = "" if self.num_images is None else f" of {total}"
        print(f"{len(rows)}{of_all} test images. Written to {folder}: worst.png, median.png, orbit.png, figures.md")
        print(f"Next:\n  {command('partnerface', 'drive', run.folder, '--motion', 'talk', '--output', 'talk.mp4')}")


def worst_and_median(rows: Rows) -> tuple[list[int], list[int]]:
    """Indices of the rows with the lowest psnr_head, worst first, and of the rows around the median.

    Images without a head rank last. If no image shows a head, psnr decides.
    """
    key = "psnr_head" if any(not math.isnan(_number(row, "psnr_head")) for row in rows) else "psnr"
    value = {i: _number(row, key) for i, row in enumerate(rows)}
    order = sorted(value, key=lambda i: math.inf if math.isnan(value[i]) else value[i])
    middle = max(0, (len(order) - NUM_MEDIAN) // 2)
    return order[:NUM_WORST], order[middle : middle + NUM_MEDIAN]


def figures_table(rows: Rows, worst: Sequence[int], median: Sequence[int]) -> str:
    """Mean, lowest, median and highest value of every metric, and a list of the shown images, as Markdown."""
    import numpy as np

    from partnerface_ns.plugin.pipeline import LABEL_COLUMNS

    names = [name for name in rows[0] if name not in LABEL_COLUMNS]
    lines = [f"# {len(rows)} test images", "", "| | mean | lowest | median | highest |", "|---|---|---|---|---|"]
    for name in names:
        values = np.array([_number(row, name) for row in rows])
        known = values[~np.isnan(values)]
        figures = [known.mean(), known.min(), np.median(known), known.max()] if known.size else [math.nan] * 4
        lines.append(f"| {name} | " + " | ".join(f"{figure:.4g}" for figure in figures) + " |")
    for title, chosen in (("Worst", worst), ("Median", median)):
        lines += ["", f"{title} by psnr_head: " + "; ".join(_caption(rows[i]) for i in chosen)]
    return "\n".join(lines) + "\n"


def losses_text(
    num: int, training: Mapping[str, float], held_out: Mapping[str, float], refitted: Mapping[str, float]
) -> str:
    """Mean metrics of training images, test images and refitted test images, as Markdown."""
    lines = [
        "",
        f"## Where the loss is: {num} images of each kind",
        "",
        "*Refitted* images have seen the truth: pose and expression were fitted to their pixels. They are no result.",
        "",
        "| | training | test | test, refitted |",
        "|---|---|---|---|",
    ]
    kinds = (training, held_out, refitted)
    lines += [f"| {name} | " + " | ".join(f"{kind[name]:.4g}" for kind in kinds) + " |" for name in held_out]
    return "\n".join(lines) + "\n"


def _orbit_sheet(run: Run) -> np.ndarray:
    from partnerface_ns.rendering.figures import arrange_sheet, to_image

    views = {name: to_image(image) for name, image in run.orbit(_ORBIT_SIDE).items()}
    names, images = list(views), list(views.values())
    starts = range(0, len(names), _ORBIT_COLUMNS)
    captions = [", ".join(names[i : i + _ORBIT_COLUMNS]) for i in starts]
    return arrange_sheet([images[i : i + _ORBIT_COLUMNS] for i in starts], (), captions)


def _sheet(rows: Rows, images: dict, chosen: Sequence[int]) -> np.ndarray:
    from partnerface_ns.cli.runs import COLUMNS, shown_row
    from partnerface_ns.rendering.figures import arrange_sheet

    return arrange_sheet([shown_row(images[i]) for i in chosen], COLUMNS, [_caption(rows[i]) for i in chosen])


def _caption(row: dict[str, str]) -> str:
    return f"{row['image']}: psnr_head {_number(row, 'psnr_head'):.2f} dB, psnr {_number(row, 'psnr'):.2f} dB"


def _number(row: dict[str, str], name: str) -> float:
    return float(row[name] or "nan")
