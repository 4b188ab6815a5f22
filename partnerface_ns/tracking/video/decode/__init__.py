"""Video files and image folders as upright RGB frames with BT.709 colours.

`reading.py` is the entry point; it selects frames and hides the difference between files and folders.
The package may import `common` and `video/packages.py`.
"""
