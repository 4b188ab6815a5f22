"""MediaPipe's networks for faces, landmarks and person segmentation, run by LiteRT.

Each module reproduces the pre- and postprocessing of one network in numpy; the weights lie in `assets/`.
The package may import `common`, `video/packages.py` and `video/face_topology.py`.
"""
