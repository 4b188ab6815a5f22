"""A tracked video as `Capture` and `Frame` in this project's conventions.

The package has one reader for every capture format and a writer for some, and it diagnoses captures. It may import
`flame` and everything before it.
"""
