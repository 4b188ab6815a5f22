"""Rays, samples along rays, volume rendering, losses, metrics and figures.

It works on tensors and holds no avatar. It may import `fields` and everything before that.
"""
