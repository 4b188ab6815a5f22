"""Adapters for nerfstudio 1.1.5: they wire the avatar into its trainer, evaluation, renderer and viewer.

They may import nerfstudio and all other packages except `cli`. Importing this package changes the process: checkpoints
may contain numpy scalars, and a run is the folder of its config.yml. Some warnings are hidden, and a user's mistake is
printed without a traceback. The import must not fail, because nerfstudio imports every plugin in every command.
"""

from partnerface_ns.plugin.eval_setup import open_own_runs
from partnerface_ns.plugin.process import allow_numpy_scalars, ignore_framework_warnings, print_input_errors_alone

allow_numpy_scalars()
open_own_runs()
ignore_framework_warnings()
print_input_errors_alone()
