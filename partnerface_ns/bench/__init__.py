"""Benchmarks: variants of the method, runs and suites that compare them, and their tables.

The package measures the others and changes nothing in them. It may import `demo` and every package before it.
"""
