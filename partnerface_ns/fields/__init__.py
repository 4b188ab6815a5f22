"""The canonical radiance field: density and colour of canonical points.

It knows nothing of the head model. It may import `geometry` and `common`.
"""
