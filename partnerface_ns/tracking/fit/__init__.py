"""The fit of a head model to landmarks and outlines of a whole video.

`fitting.py` runs the stages; `problem.py` holds the energy and its minimiser, `energy.py` the terms.
The package may import `tracking/video` and everything before `tracking`.
"""
