"""nerfstudio's model: hands rays and head states to the avatar, and its pixels back.

Which head state an image shows is decided once an image, in this order: the timestep that the camera carries
(training, ns-eval, ns-render dataset), the viewer's sliders or its frame slider, the camera's time in [0, 1] (camera
paths, spirals), the training camera's index (`--camera-idx`), and else a neutral face where the capture's first frame
has it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional, Type

import torch
import tyro
from jaxtyping import Bool, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor, nn

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.file_format import AvatarInfo
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.plugin.animation import Animation
from partnerface_ns.plugin.clips import Look
from partnerface_ns.plugin.controls import HeadControls
from partnerface_ns.plugin.dataparser import ParsedCapture
from partnerface_ns.plugin.page import MutedPart, PageView
from partnerface_ns.plugin.schedule_callback import ScheduleCallback
from partnerface_ns.plugin.training_views import TrainingViews
from partnerface_ns.plugin.viewer import FaceView, PageClipSource
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.objective import training_loss
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.warp.part_names import name_parts

OUTPUTS = ("rgb", "accumulation", "depth", "parts", "deformation", "canonical")
"""What every rendered image holds, in the viewer's order."""


@dataclass
class PartnerfaceModelConfig(ModelConfig):
    """The avatar inside nerfstudio."""

    _target: Type = field(default_factory=lambda: PartnerfaceModel)
    """Target class to instantiate."""
    avatar: AvatarConfig = field(default_factory=AvatarConfig)
    """The avatar."""
    eval_num_rays_per_chunk: int = 16384
    """Rays rendered at once outside training; the head is posed once for each such chunk."""

    # nerfstudio's own that the avatar does not use: hidden from the command line.
    enable_collider: tyro.conf.Suppress[bool] = False
    collider_params: tyro.conf.Suppress[Optional[Dict[str, float]]] = None
    loss_coefficients: tyro.conf.Suppress[Dict[str, float]] = field(default_factory=dict)
    prompt: tyro.conf.Suppress[Optional[str]] = None


class PartnerfaceModel(Model):
    """Wires the avatar."""

    config: PartnerfaceModelConfig
    trained_seconds: Tensor
    capture_digest: Tensor

    def populate_modules(self) -> None:
        super().populate_modules()
        self._parsed: ParsedCapture = self.kwargs["metadata"]["parsed_capture"]
        capture = self._parsed.capture
        self._track = capture.track
        self._shown = _first_frame(capture)
        self._trained = _trained_timesteps(capture)
        self._digest = _digest(capture.track)
        self.avatar = Avatar(
            self.config.avatar, AvatarInit.of(capture, self._parsed.head_model, self._parsed.background)
        )
        self.register_buffer("trained_seconds", torch.tensor(0.0))
        self.register_buffer("capture_digest", self._digest.clone())
        self.face_view = FaceView(self, self._shown.camera, self._pose(self._shown.timestep).mean(0).numpy())
        head_model = self._parsed.head_model
        info = self._parsed.info or AvatarInfo.of(capture, head_model, head_model.name)
        self.head_controls = HeadControls(self._parsed.head_model, info, lambda: self.avatar.skinning.head.verts_rest)
        self.animation = Animation(
            capture.num_timesteps,
            self._shown.timestep,
            self.head_controls.show_tracked,
            lambda page: PageClipSource(self, page),
        )
        self.page_view = PageView(self.avatar, self._part_names(), self.face_view.look_at_front)
        self._muted = MutedPart(self.avatar)
        self._seen: TrainingViews | None = None
        self._prepared: BakedAvatar | None = None
        self._preparing = threading.Lock()
        self.register_load_state_dict_post_hook(lambda module, _: module._forget_prepared())
        self.fast = False
        """Whether images are made as `baked/` does; it is set where nothing is trained."""

    def _part_names(self) -> list[str]:
        if self.config.avatar.deformation != "parts":
            return []
        skinning = self.avatar.skinning
        return name_parts(skinning.head.model, skinning.canonical.verts, self.avatar.deformation.get_buffer("seeds"))

    def _forget_prepared(self) -> None:
        self._prepared = None

    # -- training ------------------------------------------------------------------------------------------------

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return param_groups(self.avatar)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Stage, learning rates and the end of the run, set before and after every step."""
        course = ScheduleCallback(self, training_callback_attributes.trainer)
        return [
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], course.before_step),
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], course.after_step),
        ]

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Render rays as the data manager groups them: axes (frames, rays), one timestep for each frame."""
        rays = Rays(*(values.to(self.device) for values in (ray_bundle.origins, ray_bundle.directions)))
        timesteps = ray_bundle.metadata["timestep"][:, 0, 0].to(self.device)
        output = self.avatar.render(rays, self._states(timesteps), self._residuals_of(timesteps))
        return {**output.channels(), "output": output}

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch's rays, which are not spread evenly over the image."""
        return {"psnr": -10 * torch.log10((outputs["rgb"].detach() - batch["image"]).square().mean())}

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        return training_loss(self.avatar, outputs["output"], batch["image"], batch["mask"])

    # -- images --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None, exact: bool = False
    ) -> dict[str, Tensor]:
        """Render one camera's image (height, width, channels) of one head state.

        Args:
            camera: one camera, shape (1,).
            obb_box: taken for nerfstudio's sake; the avatar ends where the head does and is not cropped.
            exact: follow every sample even where `fast` is set.
        """
        if self._of_page(camera):
            return self.page_image(camera, self.look(time.monotonic()))
        return self._image(camera, *self._moment_of_camera(camera), exact)

    def _image(
        self, camera: Cameras, states: HeadState, residuals: Tensor | None, exact: bool = False
    ) -> dict[str, Tensor]:
        bundle = camera.generate_rays(camera_indices=0, keep_shape=True)
        origins = bundle.origins.reshape(-1, 3).to(self.device)
        directions = bundle.directions.reshape(-1, 3).to(self.device)
        fast = self.fast and not exact and bool((origins == origins[0]).all())
        flat = (self._fast if fast else self._exact)(origins, directions, states, residuals)
        return {name: flat[name].reshape(*bundle.origins.shape[:2], -1) for name in OUTPUTS}

    @property
    def prepares(self) -> bool:
        """Whether the next image must wait for `prepare`."""
        return self.fast and self._prepared is None

    def prepare(self) -> None:
        """Compute what fast images need, which takes seconds; nothing where it is there, or images are exact."""
        with self._preparing:
            if self.prepares:
                self._prepared = BakedAvatar(self.avatar)

    def _fast(
        self, origins: Tensor, directions: Tensor, states: HeadState, residuals: Tensor | None
    ) -> dict[str, Tensor]:
        self.prepare()
        assert self._prepared is not None
        whole = self._muted.part is None
        return self._prepared.render(origins[0], directions, states, residuals, use_graph=whole).channels()

    def _exact(
        self, origins: Tensor, directions: Tensor, states: HeadState, residuals: Tensor | None
    ) -> dict[str, Tensor]:
        rays = Rays(origins[None], directions[None])
        return self.avatar.render(rays, states, residuals, self.config.eval_num_rays_per_chunk).channels()

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colours without the background, and opacity."""
        opacity = outputs["accumulation"]
        colors = outputs[output_name] - (1 - opacity) * self.avatar.get_buffer("background")
        return torch.cat([(colors / opacity.clamp(min=1e-3)).clamp(0, 1), opacity], dim=-1)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of one evaluation image, with truth and result side by side."""
        from partnerface_ns.rendering.metrics import image_metrics, metric_regions

        frame: Frame = batch["frame"]
        rgb, truth = outputs["rgb"].cpu(), batch["image"].cpu()
        regions = metric_regions(self._pose(frame.timestep), self._parsed.head_model, frame.camera)
        return image_metrics(rgb, truth, regions), {
            "img": torch.cat([truth, rgb], dim=1),
            "error": (rgb - truth).abs(),
            "parts": outputs["parts"],
            "deformation": outputs["deformation"],
        }

    # -- a viewer's pages ----------------------------------------------------------------------------------------

    def look(self, now: float) -> Look:
        """What the page's controls ask for at a time, in seconds of `time.monotonic`."""
        page = self.page_view
        return Look(
            self.animation.timestep_at(now), self.head_controls.asked, page.part, page.muted, bool(page.d_mesh.value)
        )

    @torch.no_grad()
    def page_image(self, camera: Cameras, look: Look) -> dict[str, Tensor]:
        """What a page shows (height, width, channels); arguments as for `get_outputs_for_camera`."""
        states, residuals = self._moment_of_look(look)
        with self._muted.mute(look.part if look.muted else None):
            outputs = self._image(camera, states, residuals)
        self.animation.rendered.set()
        return self.page_view.dressed(outputs, camera, states, look)

    def degrees_from_training(self, camera: Cameras) -> float:
        """Angle between a page's view of the head and the nearest of training."""
        place = camera.camera_to_worlds[0, :3, 3].cpu().float()
        return self._views().degrees_away(place, self._moment_of_camera(camera)[0].to("cpu"))

    def front_of_face(self, distance: float) -> tuple[Tensor, Tensor, Tensor]:
        """A camera's place at a distance before the face that pages show, the face, and upwards; world frame."""
        states, _ = self._moment_of_look(self.look(time.monotonic()))
        return self._views().front(distance, states.to("cpu"))

    def _views(self) -> TrainingViews:
        if self._seen is None:
            head = self.avatar.skinning.head
            model = head.model.to("cpu")
            self._seen = TrainingViews(self._parsed.capture, ShapedHead(model, head.verts_rest.detach().cpu()))
        return self._seen

    def _moment_of_look(self, look: Look) -> tuple[HeadState, Int[Tensor, "frames"] | None]:
        if look.channels is not None:
            return self.head_controls.state(look.channels).to(self.device), None
        return self._moment_of_timestep(None if look.timestep is None else min(look.timestep, len(self._track) - 1))

    # -- which head state ----------------------------------------------------------------------------------------

    def _moment_of_camera(self, camera: Cameras) -> tuple[HeadState, Int[Tensor, "frames"] | None]:
        """The one head state that an image shows, and its timestep if it has a torso of its own."""
        if self._of_page(camera):
            return self._moment_of_look(self.look(time.monotonic()))
        return self._moment_of_timestep(self._timestep_of_camera(camera))

    def _moment_of_timestep(self, timestep: int | None) -> tuple[HeadState, Int[Tensor, "frames"] | None]:
        if timestep is None:
            return self._neutral(), None
        present = torch.tensor([timestep], device=self.device)
        return self._states(present), self._residuals_of(present)

    def _of_page(self, camera: Cameras) -> bool:
        """Whether an image is a viewer page's own, neither a frame of a capture nor a camera path's."""
        return "timestep" not in (camera.metadata or {}) and self.face_view.decides

    def _timestep_of_camera(self, camera: Cameras) -> int | None:
        metadata, last = camera.metadata or {}, len(self._track) - 1
        if "timestep" in metadata:
            return int(metadata["timestep"].flatten()[0])
        if camera.times is not None:
            return round(float(camera.times.flatten()[0].clamp(0, 1)) * last)
        frames = self._parsed.capture.frames_of("train")
        if "cam_idx" in metadata and 0 <= metadata["cam_idx"] < len(frames):
            return frames[metadata["cam_idx"]].timestep
        return None

    def _states(self, timesteps: Int[Tensor, "frames"]) -> HeadState:
        if self._track.expression.device != timesteps.device:
            self._track = self._track.to(timesteps.device)
        return self._track[timesteps]

    def _neutral(self) -> HeadState:
        """The rest face where the capture's first frame has its head, batch axes (1,)."""
        state = self._states(torch.tensor([self._shown.timestep], device=self.device))
        zero = torch.zeros_like
        return replace(state, expression=zero(state.expression), jaw=zero(state.jaw), eyes=zero(state.eyes))

    def _residuals_of(self, timesteps: Int[Tensor, "frames"]) -> Int[Tensor, "frames"] | None:
        """The timesteps if the avatar was trained on all of them: only those have a torso of their own."""
        own = torch.equal(self.capture_digest.cpu(), self._digest)
        return timesteps if own and bool(self._trained[timesteps.cpu()].all()) else None

    # -- the avatar ----------------------------------------------------------------------------------------------

    def _pose(self, timestep: int) -> Tensor:
        """Posed vertices of the recorded head, on the CPU."""
        capture = self._parsed.capture
        head = self.avatar.skinning.head
        state = capture.track[timestep].to(head.verts_rest.device)
        return head.pose(state).verts.detach().cpu()


def _first_frame(capture: Capture) -> Frame:
    return next(capture.frames_of(split)[0] for split in ("train", "val", "test") if capture.splits[split])


def _trained_timesteps(capture: Capture) -> Bool[Tensor, "timesteps"]:
    trained = torch.zeros(capture.num_timesteps, dtype=torch.bool)
    trained[[frame.timestep for frame in capture.frames_of("train")]] = True
    return trained


def _digest(track: HeadState) -> Tensor:
    """Eight bytes that tell one capture's track from another's, wherever its folder is."""
    content = torch.cat([track.expression, track.full_pose, track.translation], -1).cpu().numpy().tobytes()
    return torch.tensor(list(hashlib.sha256(content).digest()[:8]), dtype=torch.uint8)
