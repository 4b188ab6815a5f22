"""Errors, file access, progress bars, threads, precision and command lines.

It holds no maths of the method. It imports nothing else of this project.
"""
