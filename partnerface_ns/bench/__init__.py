"""Variants of the method, benchmark suites and their tables.

It measures and changes nothing. It may import `demo` and everything before that.
"""
