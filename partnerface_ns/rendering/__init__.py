"""Rays, samples along rays, volume rendering, losses, metrics and figures.

Functions take tensors and know no avatar. The package may import `fields` and every package before that.
"""
