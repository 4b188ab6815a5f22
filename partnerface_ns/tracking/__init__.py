"""Raw video to capture: reading, detection, landmarks, mattes, fit and quality report.

Its dependencies come with the extra `track`. It may import `capture` and everything before that.
"""
