"""PartNerFace: part-based neural radiance fields for animatable facial avatars, as a nerfstudio method."""

__version__ = "0.1.0"
