"""Rigid transforms, alignment, cameras, normals, encodings, point sampling, nearest vertices and the rasteriser.

The functions take tensors and arrays and know nothing of a head model. The package may import `common`.
"""
