"""The avatar precomputed for fast image sequences.

Its images are close to exact ones and many times as fast. It may import `training` and everything before that.
"""
