"""Raw video to capture: reading, detection, landmarks, mattes, fit and quality report.

`pipeline.py` runs `video/`, `fit/` and `report/` in this order; each of them imports only itself and those before it.
The package may import `capture` and everything before that, and needs the extra `track`.
"""
