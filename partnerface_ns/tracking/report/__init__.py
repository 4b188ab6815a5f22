"""Quality measures, warnings, charts and previews of a tracked video, and the check of a capture against its images.

`measure.py` measures a new track; `agreement.py` checks any capture for `partnerface inspect`.
The package may import `tracking/video`, `tracking/fit` and everything before `tracking`.
"""
