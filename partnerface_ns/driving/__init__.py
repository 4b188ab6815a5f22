"""Motion sources, retargeting, playing and output.

It opens a trained avatar without nerfstudio. It may import `baked` and everything before that.
"""
