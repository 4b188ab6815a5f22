"""Everything that is measured in the images: faces, landmarks, mattes, identity, occlusion and the square crop.

`interfaces.py` declares the three models that look at images; a class with the same methods replaces one of them.
The package may import `capture` and everything before that, and nothing else of `tracking`.
"""
