"""A synthetic person with known ground truth.

Its images, masks and head states are rendered here. It may import `driving` and everything before that.
"""
