"""Tracking of one face in frames that arrive one after another.

`tracker.py` is the entry point: it measures the person in the first seconds (`calibration.py`), then fits a head state
to each frame (`frame_fit.py`). Both use the equations of `landmark_energy.py`. `sources.py` yields the frames.
The package may import `tracking/video`, `tracking/fit` and everything before `tracking`.
"""
