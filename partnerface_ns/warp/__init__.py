"""Posed point to canonical point: inverse skinning, torso, tracking correction, part assigner, part deformation.

Each is a class in a module of its own; none knows the radiance field. The package may import `common`, `geometry` and
`flame`.
"""
