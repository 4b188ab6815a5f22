"""The photometric fit: aligns the images of a video with each other on the surface of the head.

`alignment.py` runs it; `equations.py` sums the normal equations of the terms, `corrections.py` solves them. The package
may import the rest of `tracking/fit`, `tracking/video` and everything before `tracking`.
"""
