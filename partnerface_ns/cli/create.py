"""`partnerface create`: from a video of a person to a talking avatar and a page about it.

The command writes this folder:

- capture/: the tracked video, with preview.mp4 and tracking.json
- inspect.png: the tracked head over some frames
- runs/partnerface-lite/avatar/: a nerfstudio run
- held_out/: held-out images beside the avatar's; held_out.json: their metrics
- talk.mp4: the avatar, talking
- index.html: the page
- create.json: the options and the finished stages; create.log: messages of the stages
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.json_file import write_json

if TYPE_CHECKING:
    from partnerface_ns.cli.resumable import ResumableFolder
    from partnerface_ns.cli.stages import Stage
    from partnerface_ns.flame.head_model import HeadModel
    from partnerface_ns.tracking.options import TrackingOptions

NUM_HELD_OUT = 8
"""Images of the test split that are evaluated, evenly spread."""
_STEPS_PER_SAVE = 200
"""Training steps between checkpoints: a minute or two on two CPU cores."""
_TRACKING_START, _TRACKING_FRAME, _UNKNOWN_FRAMES = 20.0, 0.6, 900
"""Expected seconds of tracking: its start, and each frame at 512 x 512 on two CPU cores. The last value is the expected
number of frames if the video's header states none."""
_INSPECTION = 20.0
"""Expected seconds of the inspection."""
_START = 30.0
"""Expected seconds until training or evaluation begins."""
_EXACT_PIXEL, _BAKED_PIXEL = 6e-5, 3e-6
"""Expected seconds per pixel of an exact and of a baked image on two CPU cores."""
_CLIP_IMAGES = 201
"""Images of the built-in motion `talk`."""
_TRACKING_LOOPS = {
    "Finding the face": 0.15,
    "Landmarks": 0.25,
    "Finding the person": 0.1,
    "Cutting out the person": 0.2,
    "Steadying the mattes": 0.05,
    "Fitting the head": 0.15,
    "Aligning the images": 0.15,
    "Writing images": 0.05,
    "Checking and drawing": 0.05,
}
"""Loops of tracking in order, and their relative durations."""


@dataclass
class Create:
    """Create a talking avatar from a video of a person, with a page that shows the result.

    Tracks the video, checks the result, trains an avatar, evaluates held-out images, renders a talking clip, and writes
    index.html to FOLDER: images, clip, figures, and what to film better. If stopped or killed, the same command
    continues where it stopped. With more --minutes, the same command trains on. `partnerface track --help` says how to
    film.
    """

    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """Video in any format that ffmpeg decodes, or a folder of images, sorted by the numbers in their names."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write: new, empty, or that of a stopped create."""
    minutes: float = 10.0
    """Minutes of training."""
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
    device: str = "auto"
    """Device to compute on: auto, cpu, cuda or cuda:N."""
    open: bool = False
    """Show the page in the browser at the end."""

    def __call__(self) -> None:
        from partnerface_ns.cli.resumable import ResumableFolder
        from partnerface_ns.cli.stages import run_stages
        from partnerface_ns.common.locks import lock_folder
        from partnerface_ns.tracking.options import require_options

        if not self.minutes > 0:
            raise InputError("--minutes", "out of range", expected="more than 0", actual=self.minutes)
        tracking = self._tracking_options()
        require_options(tracking, self.video)
        self._load_head_model()  # an unusable file is an error before anything is written
        place = ResumableFolder(self.folder, "create")
        place.claim()
        with lock_folder(self.folder), place.announce_stop():
            self._accept_record(place)
            for partial in self.folder.glob(".*.partial*"):  # of a killed command
                partial.unlink()
            run_stages(place, self._options(), self._stages(tracking), self.folder / "create.log")
        self._print_end()

    # -- stages --------------------------------------------------------------------------------------------------

    def _stages(self, tracking: TrackingOptions) -> list[Stage]:
        from partnerface_ns.cli.stages import Stage
        from partnerface_ns.tracking.video.decode.reading import estimate_count

        num_frames, pixels = estimate_count(self.video, tracking.selection) or _UNKNOWN_FRAMES, self.size**2
        frame = _TRACKING_FRAME * (0.3 + 0.7 * pixels / 512**2)
        return [
            Stage(
                "track",
                "Tracking the video",
                lambda: self._track(tracking),
                self.capture / "tracking.json",
                _TRACKING_START + frame * num_frames,
                _TRACKING_LOOPS,
            ),
            Stage("inspect", "Checking the footage", self._inspect, self.folder / "inspect.png", _INSPECTION),
            Stage(
                "train",
                f"Training for {self.minutes:g} minutes",
                lambda: self._train(tracking.device),
                self.run / "avatar.pt",
                _START + 60 * self.minutes,
                {"Training": 1.0},
            ),
            Stage(
                "evaluate",
                "Evaluating held-out images",
                self._evaluate,
                self.folder / "held_out.json",
                _START + _EXACT_PIXEL * pixels * NUM_HELD_OUT,
                {"Evaluating": 1.0},
            ),
            Stage(
                "clip",
                "Rendering a talking clip",
                self._render_clip,
                self.folder / "talk.mp4",
                _START + _BAKED_PIXEL * pixels * _CLIP_IMAGES,
                {"Rendering": 0.95, "Writing the clip": 0.05},
            ),
            Stage("page", "Writing the page", self._write_page, self.folder / "index.html", 1.0),
        ]

    def _track(self, options: TrackingOptions) -> None:
        from partnerface_ns.tracking.pipeline import track_video

        if (self.capture / "tracking.json").is_file():  # it appears together with the whole capture
            return
        track_video(self.video, self.capture, self._load_head_model(), options)

    def _inspect(self) -> None:
        from partnerface_ns.cli.inspect import Inspect

        image = self.folder / "inspect.png"
        verdict = Inspect(self.capture, self.head_model, output=image).judge()
        if verdict.fits is False:
            raise InputError(
                self.video,
                "this footage gives no avatar: the tracked head does not fit the images",
                expected="one face that the tracker follows",
                actual=verdict.cause,
                hint=f"look at {image} and {self.capture / 'preview.mp4'}",
            )

    def _train(self, device: str) -> None:
        from partnerface_ns.cli.training import train, training_config

        config = training_config(self.capture, self.folder, self.run.name, self.minutes, device)
        config.head_model = self.head_model
        config.steps_per_save = _STEPS_PER_SAVE
        train(config)

    def _evaluate(self) -> None:
        """Write held-out images beside those of the avatar, then their metrics."""
        from partnerface_ns.cli.runs import open_run
        from partnerface_ns.common.sequences import pick_evenly

        run = open_run(self.run)
        indices = pick_evenly(range(len(run.image_names())), NUM_HELD_OUT)
        rows = run.pipeline.evaluate(indices, self.folder / "held_out")
        # The indices name the images, as nerfstudio names those of an evaluation.
        write_json(self.folder / "held_out.json", {"indices": list(indices), "images": rows})

    def _render_clip(self) -> None:
        from partnerface_ns.cli.drive import Drive

        Drive(self.run, motion="talk", output=self.folder / "talk.mp4", device=self.device)()

    def _write_page(self) -> None:
        from partnerface_ns.cli.create_page import write_page

        write_page(self.folder, self.run, self.minutes)

    # -- folder --------------------------------------------------------------------------------------------------

    @property
    def capture(self) -> Path:
        """The tracked video."""
        return self.folder / "capture"

    @property
    def run(self) -> Path:
        """The nerfstudio run."""
        from partnerface_ns.cli.training import run_folder

        return run_folder(self.folder, "avatar")

    def _load_head_model(self) -> HeadModel:
        from partnerface_ns.capture.head_models import load_named_head_model
        from partnerface_ns.flame.open_head import load_open_head

        return load_open_head() if self.head_model is None else load_named_head_model(self.head_model)

    def _tracking_options(self) -> TrackingOptions:
        from partnerface_ns.cli.avatars import usable_device
        from partnerface_ns.tracking.options import TrackingOptions
        from partnerface_ns.tracking.video.decode.reading import Selection

        selection = Selection(self.fps, self.start, self.end, self.max_frames)
        return TrackingOptions(self.size, selection, device=usable_device(self.device))

    def _options(self) -> dict[str, Any]:
        """The options that the result depends on, with the digest of the video."""
        from partnerface_ns.tracking.video.work_folder import video_digest

        head_model = None if self.head_model is None else str(self.head_model.resolve())
        selection = {"fps": self.fps, "max_frames": self.max_frames, "start": self.start, "end": self.end}
        options = {"video": video_digest(self.video)[:12], "minutes": self.minutes, "size": self.size, **selection}
        return options | {"head_model": head_model}

    def _accept_record(self, place: ResumableFolder) -> None:
        """Check that the folder belongs to these options. With more minutes, forget the stages from training on.

        Raises:
            InputError: the folder holds a create with other options, or one of more minutes.
        """
        record = place.read()
        if record is None or not self.capture.is_dir():  # nothing is finished
            place.write({"options": self._options(), "done": {}})
            return
        recorded, done = dict(record.child("options").values), record.child("done").values
        longer = 0 < record.child("options").number("minutes") < self.minutes
        place.require_same_options(recorded | ({"minutes": self.minutes} if longer else {}), self._options())
        if longer:
            done = {name: done[name] for name in ("track", "inspect") if name in done}
        place.write({"options": self._options(), "done": done})

    def _print_end(self) -> None:
        import webbrowser

        from partnerface_ns.common.command_lines import command

        page = self.folder / "index.html"
        print(f"The avatar is in {self.run}.\nLook at {page}. Next:")
        print(f"  {command('partnerface', 'live', self.run, '--motion', 'talk')}")
        if self.open:
            webbrowser.open(page.resolve().as_uri())
