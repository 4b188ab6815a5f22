"""Ray batches, schedule, objective, optimiser groups, training loop, presets and the captured CUDA step.

Training needs no nerfstudio. The package may import `avatar` and every package before that.
"""
