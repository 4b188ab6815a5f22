"""`partnerface track`: from a raw video to a capture that can be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from partnerface_ns.common.command_lines import train_command


@dataclass
class Track:
    """Track a face video: detect the face, separate the person, fit a head model, and write a capture to train on.

    How to film: 30 seconds to 2 minutes, with a fixed camera at eye level, about a metre away. Use even, soft light
    from the front and a plain background, and show head and shoulders. Turn the head slowly to both sides, up and down.
    Speak, smile, open the mouth wide, close the eyes, raise the brows. Avoid hands or hair in front of the face,
    reflections in glasses, automatic zoom, motion blur, overexposure and other people.
    """

    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """Video in any format that ffmpeg decodes, or a folder of images, sorted by the numbers in their names."""
    dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """New or empty folder to write. The same command resumes an interrupted run.
    Unfinished work is in a hidden folder beside DIR, or inside DIR if it exists."""
    size: int = 512
    """Side of the square images, pixels: 64 to 4096."""
    fps: float | None = None
    """Largest number of frames per second to use; by default all."""
    max_frames: int | None = None
    """Largest number of frames to use, at least 10; by default all."""
    start: float = 0.0
    """Second of the video to start at."""
    end: float | None = None
    """Second of the video to stop at; by default its end."""
    head_model: Path | None = None
    """FLAME file to fit (.npz or .pkl); by default the open head of this package."""
    focal_length: float | None = None
    """Focal length in pixels divided by the longer side of the video in pixels, 0.3 to 10.
    A phone has about 0.8, a portrait lens 1.5 to 2.5. By default it is estimated; a face determines it only roughly."""
    device: str = "cpu"
    """Device of the head model fit: auto, cpu, cuda or cuda:N."""
    matting: bool = True
    """Separate the person from the background."""
    photometric: bool = True
    """Improve the fit by aligning the images with each other."""
    preview: bool = True
    """Write preview.mp4: the fitted mesh over the video, beside the separated person."""

    def __call__(self) -> None:
        from rich.console import Console

        from partnerface_ns.capture.head_models import load_named_head_model
        from partnerface_ns.cli.avatars import usable_device
        from partnerface_ns.flame.open_head import load_open_head
        from partnerface_ns.tracking.options import TrackingOptions, require_options
        from partnerface_ns.tracking.pipeline import track_video
        from partnerface_ns.tracking.video.decode.reading import Selection

        selection = Selection(self.fps, self.start, self.end, self.max_frames)
        device = usable_device(self.device)
        options = TrackingOptions(self.size, selection, self.focal_length, self.matting, self.photometric, device)
        require_options(options, self.video)
        model = load_open_head() if self.head_model is None else load_named_head_model(self.head_model)
        report = track_video(self.video, self.dir, model, options, self.preview)
        console = Console()
        for warning in report["warnings"]:
            console.print(f"[yellow]Warning:[/] {warning}")
        silhouette = report["silhouette_px_mean"]
        errors = [f"landmarks {report['landmark_px_median']} px"]
        errors += [] if silhouette is None else [f"silhouette {silhouette} px"]
        console.print(
            f"{report['frames_tracked']} of {report['frames_total']} frames tracked in {report['seconds_total']} s: "
            f"errors: {', '.join(errors)} (at 512 x 512)."
        )
        heading = f"Look at {self.dir / 'preview.mp4'}. Next:" if self.preview else "Next:"
        print(heading, train_command(self.dir, self.head_model), sep="\n  ")
