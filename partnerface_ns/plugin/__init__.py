"""Adapters for nerfstudio 1.1.5: they wire the avatar into its trainer, evaluation, renderer and viewer.

Importing this package prepares the process: numpy scalars may stand in a checkpoint that `torch.load` reads safely, a
run is the folder of its config.yml wherever it was trained, warnings that concern nerfstudio alone are hidden, and a
user's mistake ends a command with its one message. None of it may fail, because nerfstudio imports every plugin in
every command.
"""

from partnerface_ns.plugin.process import (
    allow_numpy_scalars,
    ignore_framework_warnings,
    print_input_errors_alone,
    read_own_configs,
)

allow_numpy_scalars()
read_own_configs()
ignore_framework_warnings()
print_input_errors_alone()
