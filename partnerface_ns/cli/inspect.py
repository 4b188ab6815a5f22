"""`partnerface inspect`: describe a capture and check whether it can be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from partnerface_ns.capture.names import CaptureFormat
from partnerface_ns.common.command_lines import command, train_command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from partnerface_ns.capture.capture import Capture, Frame
    from partnerface_ns.capture.verdict import Verdict
    from partnerface_ns.flame.head_model import HeadModel

NUM_SHOWN = 5
"""Frames in inspect.png."""
NUM_LISTED = 5
"""Images named at most, of those that cannot be decoded."""
_EXTRAPOLATION_SHARE = 0.1
"""Share of test frames beyond the training range above which a row is marked."""


@dataclass
class Inspect:
    """Check a capture before training on it.

    Prints layout, frames, cameras and head model, and how far the test frames exceed the training frames. Reports
    missing and broken files. Compares the tracked head with the images; if they do not match, the likely cause and the
    command that fixes it are printed. Draws the posed head over some frames. Exits with 1 if the capture should not be
    trained on.
    """

    dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of the capture, in any supported layout."""
    head_model: Path | None = None
    """Head model file (.npz, or FLAME's .pkl), or `open-head`; by default the one that the folder contains or names."""
    format: CaptureFormat | None = None
    """Layout of the capture; by default it is recognised by the contents of the folder."""
    output: Path = Path("inspect.png")
    """Image to write: the posed head over some frames."""

    def __call__(self) -> None:
        if self.judge().fits is False:
            raise SystemExit(1)

    def judge(self) -> Verdict:
        """Print everything and return the verdict.

        Raises:
            InputError: the capture cannot be read or trained on.
        """
        from partnerface_ns.capture.diagnosis import diagnose
        from partnerface_ns.capture.head_models import resolve_head_model, version_warning
        from partnerface_ns.capture.held_out import hold_out_validation, require_trainable, training_warning
        from partnerface_ns.capture.load import load_capture
        from partnerface_ns.capture.plausibility import drop_torn_heads
        from partnerface_ns.common.files import require_writable_file

        require_writable_file(self.output)
        capture = load_capture(self.dir, self.format, self.head_model)
        _print(_contents(capture))
        model = resolve_head_model(capture, self.head_model)
        doubt = version_warning(capture, model)
        _print(
            [f"head model  {model.name} ({model.fingerprint})", *([] if doubt is None else [f"            {doubt}"])]
        )
        capture = drop_torn_heads(capture, model)
        has_images = any(frame.image_path is not None for frame in capture.frames)
        doubts = [training_warning(capture)] if has_images else []
        _print([f"warning     {line}" for line in (*capture.warnings, *filter(None, doubts))])
        _print(_range_lines(capture, model))
        masks = _decode_masks(capture)
        _print([f"warning     {line}" for line in filter(None, [_mask_doubt(capture)])])
        _draw(capture, model, self.output)
        verdict = diagnose(capture, model, lambda frame: masks[_files(frame)])
        verdict = _check_face(verdict, capture, model)
        _print(_verdict_lines(verdict, capture, self.dir, self.output))
        if verdict.fits is False:
            return verdict
        if has_images:
            require_trainable(hold_out_validation(capture))
            print(f"next        {train_command(self.dir, self.head_model, self.format)}")
        else:
            options = () if self.head_model is None else ("--source-head-model", self.head_model)
            print(f"next        {command('partnerface', 'drive', 'RUN', self.dir, *options, '--output', 'OUT.mp4')}")
        return verdict


def _print(lines: list[str]) -> None:
    if lines:
        print("\n".join(lines), flush=True)


def _contents(capture: Capture) -> list[str]:
    sizes = sorted({(frame.camera.width, frame.camera.height) for frame in capture.frames})
    cameras = sorted({frame.camera_index for frame in capture.frames})
    focal = [frame.camera.fl_x / max(frame.camera.width, frame.camera.height) for frame in capture.frames]
    splits = ", ".join(f"{len(indices)} {name}" for name, indices in capture.splits.items())
    reference = capture.head_model
    tracked = reference.name or ("the one in the folder" if reference.path else "an unnamed head model")
    return [
        f"{capture.root}",
        f"layout      {capture.format}",
        f"frames      {len(capture.frames)} ({splits}), {capture.num_timesteps} timesteps",
        f"images      {', '.join(f'{w} x {h}' for w, h in sizes)}",
        f"cameras     {len(cameras)}, focal length {_span(min(focal), max(focal))} times the longer side",
        f"tracked     with {tracked}: {capture.identity.shape[-1]} identity, "
        f"{capture.track.expression.shape[-1]} expression coefficients",
        *(f"note        {remark}" for remark in capture.remarks),
    ]


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _range_lines(capture: Capture, model: HeadModel) -> list[str]:
    from partnerface_ns.capture.split_coverage import expression_novelty, split_coverage

    ranges = split_coverage(capture, model)
    if not ranges:
        return []
    lines = [f"{'range':<26}{'train':>18}{'test':>18}   test frames beyond"]
    for r in ranges:
        train, test = (f"{low:.3g} to {high:.3g}" for low, high in (r.train, r.test))
        mark = "  <- extrapolation" if r.beyond > _EXTRAPOLATION_SHARE else ""
        lines.append(f"{f'{r.name} {r.unit}':<26}{train:>18}{test:>18}   {100 * r.beyond:.0f}%{mark}")
    novelty = expression_novelty(capture)
    if novelty is not None:
        lines.append(
            f"expressions: test frames are {novelty:.1f} times as far from training frames as these are from each other"
        )
    return lines


def _mask_doubt(capture: Capture) -> str | None:
    from partnerface_ns.capture.images import mask_warning
    from partnerface_ns.common.sequences import pick_evenly

    return mask_warning(pick_evenly([frame for frame in capture.frames if frame.image_path is not None], 3))


def _files(frame: Frame) -> tuple[Path | None, Path | None]:
    return frame.image_path, frame.mask_path


def _decode_masks(capture: Capture) -> dict[tuple[Path | None, Path | None], np.ndarray]:
    """The mask of every frame at low resolution, by the frame's files.

    Raises:
        InputError: an image or mask cannot be decoded; the first are printed.
    """
    from partnerface_ns.capture.overlap import small_mask
    from partnerface_ns.common.progress import progress

    masks, broken = {}, []
    for frame in progress(capture.frames, "Decoding images"):
        if frame.image_path is None:
            continue
        try:
            masks[_files(frame)] = small_mask(frame)
        except InputError as error:
            broken.append(f"broken      {str(error).splitlines()[0]}")
    if broken:
        _print(broken[:NUM_LISTED])
        count = f"{len(broken)} of {len(capture.frames)} are broken; the first are named above"
        raise InputError(capture.root, "images cannot be decoded", expected="readable images and masks", actual=count)
    return masks


def _check_face(verdict: Verdict, capture: Capture, model: HeadModel) -> Verdict:
    """The verdict with a comparison of facial landmarks, if the packages for tracking are installed."""
    from importlib.util import find_spec

    from partnerface_ns.tracking.video.packages import INSTALL_HINT

    if find_spec("ai_edge_litert") is None:
        print(f"note        facial landmarks are not compared: install the packages for tracking ({INSTALL_HINT})")
        return verdict
    from partnerface_ns.tracking.report.agreement import refine_verdict

    checked = refine_verdict(verdict, capture, model)
    if checked.face is None and verdict.fits is not False:
        print("note        no face was detected in the images or the rendered head: only silhouettes were compared")
    return checked


def _draw(capture: Capture, model: HeadModel, path: Path) -> None:
    """Write an image of the posed head over some frames."""
    import numpy as np

    from partnerface_ns.capture.images import load_image
    from partnerface_ns.capture.overlap import posed_verts
    from partnerface_ns.common.sequences import pick_evenly
    from partnerface_ns.rendering.figures import arrange_sheet, save_image
    from partnerface_ns.rendering.overlay import draw_mesh_overlay

    frames = pick_evenly(capture.frames, NUM_SHOWN)
    images, names, faces = [], [], model.faces.numpy()
    for frame, verts in zip(frames, posed_verts(capture, model, frames), strict=True):
        size = (frame.camera.height, frame.camera.width)
        rgb, mask = np.full((*size, 3), 255, np.uint8), np.full(size, 255, np.uint8)
        if frame.image_path is not None:
            rgb, mask = load_image(frame, (1.0, 1.0, 1.0))
        images.append(draw_mesh_overlay(rgb, mask, verts, faces, frame.camera))
        names.append(f"frame {frame.timestep}, camera {frame.camera_index}")
    height = min(image.shape[0] for image in images)
    width = min(image.shape[1] for image in images)
    save_image(path, arrange_sheet([[image[:height, :width] for image in images]], names))


def _verdict_lines(verdict: Verdict, capture: Capture, root: Path, image: Path) -> list[str]:
    from partnerface_ns.capture.plausibility import join_names

    lines = [f"verdict     {_conclusion(verdict)}"]
    if verdict.overlap is not None:
        shares = f"head and mask share {100 * verdict.overlap.union:.0f}% of their union"
        lines.append(f"overlap     {shares}, {100 * verdict.overlap.outside:.1f}% of the head outside the mask")
    if verdict.face is not None:
        share = f"{100 * verdict.face:.1f}% of the face's height"
        lines.append(f"face        brows, eyes and lips are off by {share}")
    if verdict.cause is not None:
        lines.append(f"{'reason' if verdict.fits is None else 'likely':<12}{verdict.cause}")
    if verdict.fix is not None:
        lines.append(f"fix         {command('partnerface', 'convert', root, 'OUT', '--fix', verdict.fix)}")
    if verdict.bad:
        count = f"{len(verdict.bad)} of {len(capture.frames)} frames"
        names = join_names([frame.name for frame in verdict.bad])
        lines.append(f"warning     the head is in another place in {count}: {names}; remove them from the capture")
    return [*lines, f"image       {image}"]


def _conclusion(verdict: Verdict) -> str:
    if verdict.fits is None:
        return "cannot be decided"
    if verdict.fits:
        return "the head lies where the images show it"
    return "the masks do not show the person" if verdict.about == "masks" else "the head does not fit the images"
