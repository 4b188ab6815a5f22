"""Adapters for nerfstudio 1.1.5: they wire the avatar into its trainer, evaluation, renderer and viewer.

Importing this package prepares the process: numpy scalars may stand in a checkpoint that `torch.load` reads safely,
and a user's mistake ends a command with its one message. Neither may fail, because nerfstudio imports every plugin in
every command.
"""

from partnerface_ns.plugin.process import allow_numpy_scalars, print_subject_errors_alone

allow_numpy_scalars()
print_subject_errors_alone()
