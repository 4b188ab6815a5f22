"""The avatar: composition of warp, field and rendering, with its settings and file format.

`Avatar` composes and computes nothing. The package may import `rendering` and every package before that.
"""
