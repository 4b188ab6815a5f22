"""Rigid transforms, cameras, encodings, nearest vertices and the rasteriser.

It works on tensors and arrays and knows no head model. It may import `common`.
"""
