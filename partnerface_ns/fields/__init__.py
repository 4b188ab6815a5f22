"""The canonical radiance field: density and colour of canonical points.

The field knows nothing of the head model. The package may import `geometry` and `common`.
"""
