"""A tracked video as `Capture` and `Frame` in this project's conventions.

Every capture format has one reader, and some have a writer. It may import `flame` and everything before that.
"""
