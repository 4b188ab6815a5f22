"""Reading a capture together with its head model, without frames whose head is torn."""

from __future__ import annotations

from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.names import CaptureFormat, SplitName
from partnerface_ns.capture.plausibility import drop_torn_heads
from partnerface_ns.flame.head_model import HeadModel


def load_with_head_model(
    path: Path,
    layout: CaptureFormat | None = None,
    head_model: Path | None = None,
    split: SplitName | None = None,
) -> tuple[Capture, HeadModel]:
    """Read and check a capture folder and its head model.

    Args:
        path: the folder.
        layout: its layout; None recognises it by the contents of the folder.
        head_model: the head model file, if it is not in the folder.
        split: a split by time in place of the capture's own (`splits.py`).

    Returns:
        The capture without frames whose head is torn (a warning names them), and the head model.

    Raises:
        InputError: the capture cannot be used, its head model is unknown, or at least half of the heads are torn.
    """
    capture = load_capture(path, layout, head_model, split=split)
    model = resolve_head_model(capture, head_model)
    return drop_torn_heads(capture, model), model
