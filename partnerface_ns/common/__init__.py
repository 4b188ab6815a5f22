"""Errors, file access, settings, progress bars, threads, precision and command lines.

The package contains no maths of the method. It imports nothing else of this project.
"""
