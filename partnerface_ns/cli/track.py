"""`partnerface track`: from a raw video to a subject that can be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from partnerface_ns.common.command_lines import to_train


@dataclass
class Track:
    """Track a face video: find the face, cut the person out, fit a head model, write a folder to train on.

    How to film: 30 seconds to 2 minutes; camera fixed, at eye level, about a metre away; even, soft light from the
    front and a plain background; head and shoulders in the image. Turn the head slowly to both sides, up and down;
    speak, smile, open the mouth wide, close the eyes, raise the brows. Avoid hands and hair before the face, thick
    glasses' reflections, automatic zoom, motion blur, burnt-out light and other people. Train with
    `ns-train partnerface-lite --data DIR --max-train-minutes 10`.
    """

    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """The video (anything that ffmpeg decodes), or a folder of images in order of the numbers in their names."""
    dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The new or empty folder to write. A hidden folder beside it (in it, if it exists) holds unfinished work, so
    that a stopped run goes on."""
    size: int = 512
    """Side of the square images, pixels: 64 to 4096."""
    fps: float | None = None
    """Take at most this many frames a second; by default all."""
    max_frames: int | None = None
    """Take at most this many frames: 10 or more."""
    start: float = 0.0
    """Seconds of the video to leave out at its beginning."""
    end: float | None = None
    """Second of the video to stop at."""
    head_model: Path | None = None
    """FLAME file to fit (.npz or .pkl); by default the open head that comes with this package."""
    focal_length: float | None = None
    """Focal length in longer sides of the video's frame (pixels divided by width, for a wide frame); by default it
    is estimated, which a face allows only roughly. 0.3 to 10; a phone has about 0.8, a portrait lens 1.5 to 2.5."""
    device: str = "cpu"
    """Where the head is fitted: auto, cpu, cuda or cuda:N."""
    matting: bool = True
    """Cut the person out of the background; without, images stay as they are."""
    preview: bool = True
    """Draw preview.mp4: the fitted mesh over the video, beside the cut-out person."""

    def __call__(self) -> None:
        from rich.console import Console

        from partnerface_ns.capture.head_models import named_head_model
        from partnerface_ns.cli.avatars import usable_device
        from partnerface_ns.flame.open_head import load_open_head
        from partnerface_ns.tracking.options import TrackingOptions
        from partnerface_ns.tracking.pipeline import track_video
        from partnerface_ns.tracking.video.decode.reading import Selection

        model = load_open_head() if self.head_model is None else named_head_model(self.head_model)
        selection = Selection(self.fps, self.start, self.end, self.max_frames)
        options = TrackingOptions(self.size, selection, self.focal_length, self.matting, usable_device(self.device))
        report = track_video(self.video, self.dir, model, options, self.preview)
        console = Console()
        for warning in report["warnings"]:
            console.print(f"[yellow]Warning:[/] {warning}")
        silhouette = report["silhouette_px_mean"]
        measured = [f"landmarks {report['landmark_px_median']} px"]
        measured += [] if silhouette is None else [f"silhouette {silhouette} px"]
        console.print(
            f"{report['frames_tracked']} of {report['frames_total']} frames tracked in {report['seconds_total']} s: "
            f"{', '.join(measured)} (at 512 x 512)."
        )
        next_is = f"Look at {self.dir / 'preview.mp4'}, then:" if self.preview else "Next:"
        print(next_is, to_train(self.dir, self.head_model), sep="\n  ")
