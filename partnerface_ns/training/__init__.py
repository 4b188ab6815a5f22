"""Ray batches, schedule, objective, optimiser groups, training loop and the captured step of a GPU.

It trains without nerfstudio. It may import `avatar` and everything before that.
"""
