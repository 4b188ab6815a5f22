"""Show an avatar on your own viser page, with sliders for each client: python viser_page.py RUN [PORT]."""

import sys
import time

import viser

import partnerface_ns
from partnerface_ns.driving.player import scale_camera
from partnerface_ns.rendering.figures import to_image

player = partnerface_ns.load(sys.argv[1], fast=True)
camera = scale_camera(player.camera, 128)
server = viser.ViserServer(port=int(sys.argv[2]) if len(sys.argv) > 2 else 7007, verbose=False)


@server.on_client_connect
def add_sliders(client: viser.ClientHandle) -> None:
    """Add sliders for a new client. Moving one renders an image for that client only."""
    sliders = {
        "jaw": client.gui.add_slider("jaw (rad)", 0.0, 0.4, 0.01, 0.0),
        "yaw": client.gui.add_slider("yaw (rad)", -0.5, 0.5, 0.01, 0.0),
        "mouthSmile": client.gui.add_slider("smile", 0.0, 1.0, 0.01, 0.0),
    }

    def show(_: object = None) -> None:
        state = player.face(**{name: slider.value for name, slider in sliders.items()})
        client.scene.set_background_image(to_image(player.render(camera, state)["rgb"]))

    for slider in sliders.values():
        slider.on_update(show)
    show()


while True:
    time.sleep(1.0)
