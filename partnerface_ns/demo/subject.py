"""The demo subject: a synthetic person rendered as a capture in the default layout.

The stored head states are exact, because the person was posed with them. They contain the torso's pose, because the
shoulders sway independently of the head. The images also contain what head states do not describe: sliding glasses,
wrinkles and hair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.vhap import read_vhap
from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.capture.writing import require_new
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.threads import map_threaded
from partnerface_ns.demo.appearance import Appearance
from partnerface_ns.demo.face_map import Anchors
from partnerface_ns.demo.performance import Performance, novelty, perform
from partnerface_ns.demo.posed_person import PosedPerson
from partnerface_ns.demo.scene import DemoScene
from partnerface_ns.flame.joints import EYES, Joint
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.rigid import rigid_about

MIN_FRAMES, MIN_SIZE = 10, 32
DENSE_FRAMES = 300
"""Number of frames for the comparison of the two takes, independent of the rendered number."""
_IDENTITY_SPREAD = 0.5
"""Standard deviation of identity coefficients. With 1 most faces look extreme."""
_CAMERA_DISTANCE = 0.90
"""Distance from the head model's origin, metres. The face is 0.1 nearer."""
_FOCAL_SHARE = 2.2
"""Focal length over image size."""
_CLEARANCE = 0.048
"""Space for hair and motion above the head, metres."""
_WORKERS = 2
"""Images rendered in parallel; numpy releases the interpreter lock in its loops."""

Image = tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]


def make_subject(root: Path, *, frames: int = DENSE_FRAMES, size: int = 256, seed: int = 0) -> Capture:
    """Render a synthetic person and write the capture.

    Args:
        root: the new folder. It must not exist or be empty.
        frames: number of images, at least 10. The first 70% are the training split, the rest the test split. Any number
            covers the whole performance.
        size: width and height of the images in pixels, at least 32.
        seed: determines identity, colours and motion. Equal seeds give equal captures.

    Returns:
        The capture, read back from the folder.

    Raises:
        InputError: the folder is not empty, or `frames` or `size` is too small.
    """
    root = Path(root)
    for option, value, least in (("--frames", frames, MIN_FRAMES), ("--size", size, MIN_SIZE)):
        if value < least:
            raise InputError(option, "too small for a subject", expected=f"at least {least}", actual=value)
    require_new(root)
    subject = DemoSubject.create(seed, frames, size)
    write_vhap(root, subject.capture(root), subject.head.model, subject.images())
    return read_vhap(root.resolve())


@dataclass(frozen=True)
class DemoSubject:
    """A person, their motion and the camera."""

    head: ShapedHead
    identity: Float[torch.Tensor, "identity"]
    anchors: Anchors
    scene: DemoScene
    performance: Performance
    camera: Camera

    @staticmethod
    def create(seed: int, num_frames: int, size: int) -> DemoSubject:
        """Generate a person. The same seed gives the same person for any number and size of frames."""
        person, motion = np.random.default_rng([seed, 0]), [seed, 1]
        model = load_open_head()
        coefficients = _IDENTITY_SPREAD * person.standard_normal(model.num_identity)
        identity = torch.from_numpy(coefficients.astype(np.float32))
        head = ShapedHead.of(model, identity)
        names = model.expression_names
        assert_unseen(perform(names, DENSE_FRAMES, np.random.default_rng(motion)))
        anchors = Anchors.measure(model, head.verts_rest.numpy())
        return DemoSubject(
            head,
            identity,
            anchors,
            DemoScene.create(head, Appearance.random(person), person),
            perform(names, num_frames, np.random.default_rng(motion)),
            _camera(anchors, size),
        )

    @cached_property
    def track(self) -> HeadState:
        """Head states of all frames with the pose of the torso, batch axes (timesteps,)."""
        torso = np.concatenate([self.performance.torso_rotation, self.performance.torso_translation], -1)
        return replace(self.performance.track, torso=torch.from_numpy(torso.astype(np.float32)))

    def capture(self, root: Path) -> Capture:
        """The capture of all frames. `images` yields its images in order."""
        performance, model = self.performance, self.head.model
        num = len(performance.track)
        frames = tuple(Frame(t, 0, self.camera, None, None) for t in range(num))
        cut = performance.num_train
        return Capture(
            root=root,
            name=root.name,
            head_model=HeadModelRef(model.name, model.fingerprint),
            identity=self.identity,
            static_offset=None,
            track=self.track,
            frames=frames,
            splits={"train": tuple(range(cut)), "val": (), "test": tuple(range(cut, num))},
            background=(1.0, 1.0, 1.0),
        )

    def pose(self, timestep: int) -> PosedPerson:
        """The pose of the person at one timestep."""
        state = self.track[timestep]
        assert state.torso is not None
        T_world_joints = self.head.pose(state).T_world_rest.numpy().astype(np.float64)
        root = (self.head.model.joint_regressor @ self.head.verts_rest)[Joint.ROOT]
        T_world_torso = rigid_about(root, *state.torso.split(3, -1))
        expression = dict(zip(self.head.model.expression_names, state.expression.tolist(), strict=True))
        return PosedPerson(
            skin=self.head.surface(state).numpy(),
            T_world_skull=T_world_joints[Joint.NECK],
            T_world_eyes=T_world_joints[EYES],
            T_world_torso=T_world_torso.numpy().astype(np.float64),
            T_skull_glasses=self._slide_glasses(self.performance.glasses_slip[timestep]),
            expression=expression,
        )

    def image(self, timestep: int) -> Image:
        """Render colours over white and mask at one timestep."""
        return self.scene.image(self.pose(timestep), self.camera)

    def images(self) -> Iterator[Image]:
        """Render all images in order, a few ahead."""
        return map_threaded(self.image, range(len(self.performance.track)), _WORKERS)

    def _slide_glasses(self, slip: float) -> np.ndarray:
        """Motion of glasses that rotate about the ears until they sit `slip` metres lower on the nose."""
        ear = self.anchors.ear_top * [0, 1, 1]
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec([slip / 0.10, 0, 0]).as_matrix()
        T[:3, 3] = ear - T[:3, :3] @ ear + [0, 0, 0.5 * slip]
        return T


def assert_unseen(performance: Performance) -> None:
    """Assert that every frame of the second take is far from the first take.

    Its distance to the nearest frame of the first take exceeds that of 95% of the frames within the first take.
    """
    cut = performance.num_train
    train, test = performance.track[:cut], performance.track[cut:]
    usual = np.quantile(novelty(train, train), 0.95)
    nearest = novelty(test, train).min()
    assert nearest > usual, f"the test split comes within {nearest:.2f} of the training split (usual: {usual:.2f})"


def _camera(anchors: Anchors, size: int) -> Camera:
    """A fixed camera with the head near the top of the image and the shoulders below."""
    half_height = 0.5 * _CAMERA_DISTANCE / _FOCAL_SHARE
    T_world_camera = np.eye(4)
    T_world_camera[:3, 3] = [0.0, anchors.crown_y + _CLEARANCE - half_height, _CAMERA_DISTANCE]
    return Camera(T_world_camera, _FOCAL_SHARE * size, _FOCAL_SHARE * size, size / 2, size / 2, size, size)
