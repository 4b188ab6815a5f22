"""Posed point to canonical point, one class a file: inverse skinning, torso, tracking correction, part assigner, part
deformation.

It knows nothing of the radiance field. It may import `flame` and everything before that.
"""
