"""The plugin's tiny capture and runs, for commands that work on runs."""

from plugin.conftest import head, make_config, one_thread, start, subject  # noqa: F401
