"""The head model: checked arrays, safe loading, posing, regions and the built-in open head.

Head states live here as well. It may import `common` and `geometry`.
"""
