"""Render one expression: python render_expression.py RUN smile.png. RUN is a run folder or an avatar file."""

import sys

from PIL import Image

import partnerface_ns
from partnerface_ns.driving.player import scale_camera
from partnerface_ns.rendering.figures import to_image

player = partnerface_ns.load(sys.argv[1])
state = player.face(mouthSmile=0.8, jaw=0.1, yaw=0.2)  # channels are listed in docs/driving.md; angles are radians
outputs = player.render(scale_camera(player.camera, 128), state)
Image.fromarray(to_image(outputs["rgb"])).save(sys.argv[2])
