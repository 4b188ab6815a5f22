"""Motion sources, retargeting, rendering of sequences, and their output.

`player.py` opens a trained avatar without nerfstudio. Modules may import `baked` and every package before it.
"""
