"""The head model: checked arrays, safe loading, posing, regions and the built-in open head.

Head states are here as well. The package may import `common` and `geometry`.
"""
