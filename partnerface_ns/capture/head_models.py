"""The head model that a capture's coefficients belong to. A mismatch is an error."""

from __future__ import annotations

from pathlib import Path

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.command_lines import train_command
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel, load_head_model
from partnerface_ns.flame.pickle_file import FLAME_VERSIONS


def resolve_head_model(capture: Capture, given: Path | None = None) -> HeadModel:
    """The given head model, else the one in the capture's folder, else the open head if the capture names it.

    Args:
        capture: the capture.
        given: a head model file, or the open head's name.

    Raises:
        InputError: the head model is unknown, or the capture was tracked with another one.
    """
    from partnerface_ns.flame.open_head import OPEN_HEAD_NAME, load_open_head

    reference = capture.head_model
    path = given or reference.path
    if path is not None:
        model = load_named_head_model(path)
    elif (reference.name or "").startswith(OPEN_HEAD_NAME) or reference.fingerprint == load_open_head().fingerprint:
        model = load_open_head()
    else:
        named = f"it was tracked with {_describe(reference.name, reference.fingerprint)}, which is not in the folder"
        raise InputError(
            capture.root,
            "the head model of this capture is not known",
            expected="the head model that the capture was tracked with",
            actual=named if reference.name or reference.fingerprint else "nothing in the folder names or holds one",
            hint="give its file: partnerface inspect DIR --head-model FILE, or for training\n"
            f"            {train_command(capture.root, Path('FILE'))}",
        )
    check_head_model(capture, model)
    return model


def load_named_head_model(path: Path) -> HeadModel:
    """Load a head model from a file, or the open head by its name.

    Raises:
        InputError: the file cannot be used.
    """
    from partnerface_ns.flame.open_head import OPEN_HEAD_NAME, load_open_head

    return load_open_head() if str(path) == OPEN_HEAD_NAME else load_head_model(path)


def check_head_model(capture: Capture, model: HeadModel) -> None:
    """Check that a capture was tracked with this head model, as far as its files tell.

    Raises:
        InputError: another fingerprint, version, or number of coefficients or vertices. Names both models.
    """
    reference = capture.head_model
    ours = _describe(model.name, model.fingerprint)
    if reference.fingerprint not in (None, model.fingerprint):
        raise InputError(
            capture.root,
            "was tracked with another head model than the one given",
            expected=_describe(reference.name, reference.fingerprint),
            actual=ours,
        )
    if _is_flame(reference.name) and _is_flame(model.name) and reference.name != model.name:
        raise InputError(
            capture.root,
            "was tracked with another version of FLAME than the one given: their coefficients mean different shapes",
            expected=reference.name,
            actual=model.name,
        )
    offset = capture.static_offset
    for key, expected, actual in (
        ("identity coefficients", model.num_identity, capture.identity.shape[-1]),
        ("expression coefficients", model.num_expr, capture.track.expression.shape[-1]),
        ("vertices with personal offsets", model.num_verts, model.num_verts if offset is None else offset.shape[0]),
    ):
        if expected != actual:
            theirs = reference.name or "the capture's head model"
            raise InputError(
                capture.root,
                f"was tracked with another head model ({theirs}) than the one given ({model.name})",
                key=key,
                expected=f"{expected}, as {ours} has",
                actual=actual,
            )


def version_warning(capture: Capture, model: HeadModel) -> str | None:
    """A warning if the files do not tell whether the capture was tracked with this head model; else None."""
    reference = capture.head_model
    if reference.fingerprint is not None or reference.path is not None or reference.name == model.name:
        return None
    tracked = reference.name or "a head model that it does not name"
    return f"tracked with {tracked}; whether {model.name} is the same cannot be told from the files"


def _is_flame(name: str | None) -> bool:
    return name in FLAME_VERSIONS


def _describe(name: str | None, fingerprint: str | None) -> str:
    return f"{name or 'a head model without name'} ({fingerprint or 'fingerprint unknown'})"
