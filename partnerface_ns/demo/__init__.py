"""A synthetic person with known ground truth.

The package draws its images and masks and writes them with the true head states as a capture. It may import `driving`
and everything before it.
"""
