"""The dataparser `flame-data`: a tracked capture as nerfstudio cameras that carry their timestep.

Camera poses stay as they are (OpenGL, metres). They are not recentred or scaled, because the head track lies in the
same world. A camera carries `times` = timestep / (timesteps - 1) and the metadata `timestep` (cameras, 1). The track
and the head model are in the outputs' metadata under `parsed_capture`.

nerfstudio imports this module while its own configs are half loaded. The module therefore imports only the base class
from nerfstudio, and readers when they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Tuple, Type

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.names import CaptureFormat, SplitName
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState

if TYPE_CHECKING:
    from partnerface_ns.avatar.file_format import AvatarInfo


@dataclass
class FlameDataParserConfig(DataParserConfig):
    """Folder and format of a tracked capture."""

    _target: Type = field(default_factory=lambda: FlameDataParser)
    """Target class to instantiate."""
    data: Path = Path()
    """Folder of the capture."""
    format: Optional[CaptureFormat] = None
    """Layout of the folder; None recognises it by the files in it."""
    head_model: Optional[Path] = None
    """Head model file (.npz, or FLAME's .pkl), or the name of the built-in open head. None takes the one in the
    capture's folder, or the open head if the capture was tracked with it."""
    split: Optional[SplitName] = None
    """Split by time in place of the capture's own. last: test on the last 30% of the frames; interleaved: on every
    fifth frame; published: on the last 350 frames, or on the last fifth of short captures."""
    background: Tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour in [0, 1] behind the person, if the capture has no background colour of its own."""
    downscale_factor: Optional[float] = None
    """Factor by which images and cameras are reduced; None keeps their size."""


@dataclass(frozen=True)
class ParsedCapture:
    """A capture with its head model and background, as the dataparser passes it to the data manager and the model."""

    capture: Capture
    head_model: HeadModel
    background: tuple[float, float, float]
    """Colour behind the person in the images, in [0, 1]."""
    info: AvatarInfo | None = None
    """The content of an avatar file that replaces a missing capture."""
    reach: Float[Tensor, "3"] | None = None
    """The reach of density of that avatar, metres."""

    def __deepcopy__(self, memo: dict) -> ParsedCapture:
        # nerfstudio copies the metadata for each dataset. This object is large and never changes.
        return self


class FlameDataParser(DataParser):
    """Reads a capture once and provides its splits."""

    config: FlameDataParserConfig
    includes_time: bool = True

    def __init__(self, config: FlameDataParserConfig) -> None:
        super().__init__(config)
        self.downscale_factor = config.downscale_factor
        self._parsed: ParsedCapture | None = None

    def parse_capture(self) -> ParsedCapture:
        """Read the capture and its head model on the first call.

        Raises:
            InputError: the folder cannot be used, or was tracked with another head model.
        """
        if self._parsed is None:
            is_avatar = self.config.data.suffix == ".pt" and self.config.data.is_file()
            self._parsed = self._read_avatar() if is_avatar else self._read_capture()
        return self._parsed

    def _read_capture(self) -> ParsedCapture:
        from partnerface_ns.capture.head_models import resolve_head_model
        from partnerface_ns.capture.held_out import hold_out_validation
        from partnerface_ns.capture.load import load_capture
        from partnerface_ns.capture.plausibility import drop_torn_heads

        if not self.config.data.exists():
            hint = "if it was moved, use --data of ns-train, ns-render dataset or partnerface report"
            raise InputError(self.config.data, "the capture's folder does not exist", hint=hint)
        capture = load_capture(self.config.data, self.config.format, self.config.head_model, split=self.config.split)
        head_model = resolve_head_model(capture, self.config.head_model)
        capture = hold_out_validation(drop_torn_heads(capture, head_model))
        _print_notes(capture, head_model)
        return ParsedCapture(capture, head_model, capture.background or self.config.background)

    def _read_avatar(self) -> ParsedCapture:
        """A capture of one frame without an image: the neutral face in front of the first training camera."""
        from partnerface_ns.avatar.file_format import load_avatar

        path = self.config.data
        avatar, info = load_avatar(path, self.config.head_model)
        capture = Capture(
            root=path.parent,
            name=path.parent.name,
            head_model=HeadModelRef(),
            identity=avatar.identity,
            static_offset=avatar.static_offset,
            track=HeadState.stack([info.neutral]),
            frames=(Frame(0, 0, info.camera, None, None),),
            splits=dict.fromkeys(("train", "val", "test"), (0,)),
        )
        red, green, blue = avatar.background.tolist()
        return ParsedCapture(capture, avatar.head.model, (red, green, blue), info, avatar.reach)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: object) -> DataparserOutputs:
        parsed = self.parse_capture()
        capture = parsed.capture
        frames = _require_frames(capture, split)
        scale = 1.0 if self.downscale_factor is None else 1 / self.downscale_factor
        return DataparserOutputs(
            image_filenames=[_image_name(capture, frame) for frame in frames],
            cameras=to_nerfstudio_cameras([scale_frame(frame, scale) for frame in frames], capture.num_timesteps),
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
            metadata={"parsed_capture": parsed, "frames": frames, "scale": scale},
        )


def scale_frame(frame: Frame, scale: float) -> Frame:
    """The frame at another resolution, rounded to whole pixels."""
    camera = frame.camera
    width, height = max(1, round(camera.width * scale)), max(1, round(camera.height * scale))
    return replace(frame, camera=camera.resize(width, height))


def to_nerfstudio_cameras(frames: Sequence[Frame], num_timesteps: int) -> Cameras:
    """The frames' cameras, which carry the timestep of their frame."""
    cameras = [frame.camera for frame in frames]
    column = lambda name: torch.tensor([[float(getattr(camera, name))] for camera in cameras])  # noqa: E731
    timesteps = torch.tensor([[frame.timestep] for frame in frames])
    return Cameras(
        camera_to_worlds=torch.stack([torch.from_numpy(c.T_world_camera[:3]).float() for c in cameras]),
        fx=column("fl_x"),
        fy=column("fl_y"),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width").long(),
        height=column("height").long(),
        camera_type=CameraType.PERSPECTIVE,
        times=timesteps / max(1, num_timesteps - 1),
        metadata={"timestep": timesteps},
    )


def absolute_head_model(given: Path) -> Path:
    """The head model that a user names, independent of the working directory."""
    from partnerface_ns.flame.open_head import OPEN_HEAD_NAME

    return given if str(given) == OPEN_HEAD_NAME else given.resolve()


def head_model_source(capture: Capture, given: Path | None) -> Path:
    """File or name of a capture's head model, as `FlameDataParserConfig.head_model` accepts it."""
    from partnerface_ns.flame.open_head import OPEN_HEAD_NAME

    return absolute_head_model(given or capture.head_model.path or Path(OPEN_HEAD_NAME))


def _print_notes(capture: Capture, head_model: HeadModel) -> None:
    """Print remarks and warnings about the capture, one line each."""
    from partnerface_ns.capture.head_models import version_warning
    from partnerface_ns.capture.held_out import training_warning
    from partnerface_ns.capture.images import mask_warning

    imaged = [frame for frame in capture.frames if frame.image_path is not None]
    doubts = [training_warning(capture), mask_warning(imaged[:: max(1, len(imaged) // 3)])] if imaged else []
    warnings = [f"Warning: {line}" for line in (*capture.warnings, *filter(None, doubts))]
    for line in (*filter(None, (*capture.remarks, version_warning(capture, head_model))), *warnings):
        print(f"{capture.name}: {line}")


def _require_frames(capture: Capture, split: str) -> tuple[Frame, ...]:
    frames = capture.frames_of(split)
    if not frames:
        raise InputError(capture.root, f"the {split} split is empty", expected="at least one frame", actual=0)
    return frames


def _image_name(capture: Capture, frame: Frame) -> Path:
    """The frame's image; a frame without one gets the name that its image would have."""
    name = f"{frame.timestep:05d}_{frame.camera_index:02d}.png"
    return frame.image_path or capture.root / "images" / name


flame_data = DataParserSpecification(
    config=FlameDataParserConfig(), description="A face video with a tracked FLAME head (partnerface)."
)
