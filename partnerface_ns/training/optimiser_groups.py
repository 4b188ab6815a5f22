"""The avatar's parameters, grouped by learning rate."""

from __future__ import annotations

from torch import nn

from partnerface_ns.avatar.avatar import Avatar


def param_groups(avatar: Avatar) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by group. `LEARNING_RATES` has a rate for each group."""
    config = avatar.config
    groups = {
        "planes": list(avatar.field.planes.parameters()),
        "field": [p for name, p in avatar.field.named_parameters() if not name.startswith("planes")],
    }
    if config.torso.enabled:
        groups["torso"] = list(avatar.torso.parameters())
    if config.correction.enabled:
        groups["correction"] = list(avatar.correction.parameters())
    if config.deformation != "none":
        groups["deformation"] = list(avatar.deformation.parameters())
    if config.deformation == "parts" and config.schedule != "hard":
        groups["assigner"] = list(avatar.assigner.parameters())
    return groups
