"""nerfstudio's model: passes rays and head states to the avatar, and returns its pixels.

The timestep that a camera carries selects the head state of its image. Without a timestep, the viewer's controls select
it on a page. Otherwise `head_states.py` selects it by the camera's time or index.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional, Type

import numpy as np
import torch
import tyro
from jaxtyping import Float
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
from partnerface_ns.capture.capture import Frame
from partnerface_ns.plugin.animation import Animation
from partnerface_ns.plugin.controls import HeadControls
from partnerface_ns.plugin.dataparser import ParsedCapture
from partnerface_ns.plugin.head_states import HeadStates, ShownHead
from partnerface_ns.plugin.image_renderer import ImageRenderer
from partnerface_ns.plugin.page import MutedPart, PageView
from partnerface_ns.plugin.page_images import PageImages
from partnerface_ns.plugin.schedule_callback import ScheduleCallback
from partnerface_ns.plugin.training_views import FrontView
from partnerface_ns.plugin.true_images import TrueImages
from partnerface_ns.plugin.viewer import FaceView, PageClipSource
from partnerface_ns.rendering.metric_regions import metric_regions
from partnerface_ns.rendering.metrics import ImageDistance, image_metrics
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.objective import training_loss
from partnerface_ns.training.optimiser_groups import param_groups


@dataclass
class PartnerfaceModelConfig(ModelConfig):
    """The avatar inside nerfstudio."""

    _target: Type = field(default_factory=lambda: PartnerfaceModel)
    """Target class to instantiate."""
    avatar: AvatarConfig = field(default_factory=AvatarConfig)
    """Settings of the avatar."""
    eval_num_rays_per_chunk: int = 16384
    """Rays rendered at once outside training. The head is posed once for each chunk."""

    # nerfstudio's own settings that the avatar does not use: hidden from the command line.
    enable_collider: tyro.conf.Suppress[bool] = False
    collider_params: tyro.conf.Suppress[Optional[Dict[str, float]]] = None
    loss_coefficients: tyro.conf.Suppress[Dict[str, float]] = field(default_factory=dict)
    prompt: tyro.conf.Suppress[Optional[str]] = None


class PartnerfaceModel(Model):
    """Connects the avatar with nerfstudio's trainer, evaluation and viewer."""

    config: PartnerfaceModelConfig
    trained_seconds: Tensor
    progress: Tensor
    capture_digest: Tensor

    def populate_modules(self) -> None:
        """Build the avatar for the parsed capture, and the controls of the viewer."""
        super().populate_modules()
        self._parsed: ParsedCapture = self.kwargs["metadata"]["parsed_capture"]
        capture, head_model = self._parsed.capture, self._parsed.head_model
        init = AvatarInit.of(capture, head_model, self._parsed.background)
        if self._parsed.reach is not None:
            init = replace(init, reach=self._parsed.reach)
        self.avatar = Avatar(self.config.avatar, init)
        self._head_states = HeadStates(capture, lambda: self.capture_digest)
        # Every process sets these itself. The first three stay on the CPU, which the backend of GPUs cannot broadcast.
        self._ddp_params_and_buffers_to_ignore = [
            *("avatar.stage", "avatar.step", "avatar.unseen.interval"),
            "avatar.field.completion.volume",
        ]
        self.register_buffer("trained_seconds", torch.tensor(0.0))
        self.register_buffer("progress", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("capture_digest", self._head_states.digest.clone())
        muted_part = MutedPart(self.avatar)
        self.image_renderer = ImageRenderer(self.avatar, muted_part)
        self.register_load_state_dict_post_hook(lambda module, _: module.image_renderer.discard_baked())
        self._create_controls()
        controls = (self.head_controls, self.animation, self.page_view)
        true_images = TrueImages(capture, self._parsed.background)
        self.pages = PageImages(
            self.avatar, capture, true_images, self._head_states, muted_part, self._render, controls
        )

    def _create_controls(self) -> None:
        """Create the viewer's controls. nerfstudio finds them among the public attributes."""
        capture, head_model = self._parsed.capture, self._parsed.head_model
        info = self._parsed.info or AvatarInfo.of(capture, head_model, head_model.name)
        first = self._head_states.first_frame
        self.face_view = FaceView(self, first.camera, self._pose(first.timestep).mean(0))
        self.head_controls = HeadControls(head_model, info, lambda: self.avatar.head.verts_rest)
        self.animation = Animation(
            capture.num_timesteps,
            first.timestep,
            self.head_controls.show_tracked,
            self.face_view.rerender,
            lambda page: PageClipSource(self, page),
        )
        self.page_view = PageView(self.avatar, self.avatar.part_names(), self.face_view.look_at_front)

    # -- training ------------------------------------------------------------------------------------------------

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return param_groups(self.avatar)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The schedule, which acts before and after every step."""
        schedule = ScheduleCallback(self, training_callback_attributes.trainer)
        return [
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], schedule.before_step),
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], schedule.after_step),
        ]

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Render rays with axes (frames, rays), as the data manager groups them: one timestep for each frame."""
        rays = Rays(*(values.to(self.device) for values in (ray_bundle.origins, ray_bundle.directions)))
        timesteps = ray_bundle.metadata["timestep"][:, 0, 0].to(self.device)
        residual_timesteps = self._head_states.residual_timesteps(timesteps)
        output = self.avatar.render(rays, self._head_states.states(timesteps), residual_timesteps)
        return {**output.channels(), "output": output}

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch's rays, which do not cover the images uniformly."""
        return {"psnr": -10 * torch.log10((outputs["rgb"].detach() - batch["image"]).square().mean())}

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Weighted loss terms; in training also ends the avatar's step, as the training loop does."""
        terms = training_loss(self.avatar, outputs["output"], batch["image"], batch["mask"])
        if self.training:
            self.avatar.end_step()
        return terms

    # -- images --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None, exact: bool = False
    ) -> dict[str, Float[Tensor, "height width _"]]:
        """Render one camera's image.

        Args:
            camera: one camera, shape (1,).
            obb_box: unused. nerfstudio passes it, but the avatar is not cropped.
            exact: whether to render all samples even if the baked avatar is used otherwise.
        """
        if self._is_page_image(camera):
            return self.pages.render(camera)
        return self._render(camera, self._select_head(camera), exact)

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(
        self, camera_ray_bundle: RayBundle, obb_box: OrientedBox | None = None
    ) -> dict[str, Float[Tensor, "height width _"]]:
        """Render the rays of an image, which `ns-export tsdf` passes without their camera.

        Every image shows the neutral face with the head pose of the first frame: the exporter fuses one surface.
        """
        neutral = self._head_states.at(None, self.device)
        return self.image_renderer.render_bundle(camera_ray_bundle, neutral, self.config.eval_num_rays_per_chunk)

    def _render(self, camera: Cameras, head: ShownHead, exact: bool = False) -> dict[str, Tensor]:
        return self.image_renderer.render(camera, head, self.config.eval_num_rays_per_chunk, exact)

    def _select_head(self, camera: Cameras) -> ShownHead:
        if self._is_page_image(camera):
            return self.pages.head()
        return self._head_states.at(self._head_states.select_timestep(camera), self.device)

    def _is_page_image(self, camera: Cameras) -> bool:
        """Whether the viewer's controls select the head: not for frames of a capture, nor for camera paths."""
        return "timestep" not in (camera.metadata or {}) and self.face_view.controls_image

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Float[Tensor, "height width 4"]:
        """Colours without the background, and opacity."""
        opacity = outputs["accumulation"]
        colors = outputs[output_name] - (1 - opacity) * self.avatar.background
        return torch.cat([(colors / opacity.clamp(min=1e-3)).clamp(0, 1), opacity], dim=-1)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], lpips: ImageDistance | None = None
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of one evaluation image, and the images that nerfstudio shows: truth beside result, and others."""
        frame: Frame = batch["frame"]
        rgb, truth = outputs["rgb"].cpu(), self.true_image(batch)
        verts = torch.from_numpy(self._pose(frame.timestep))
        foreground = batch["mask"][..., 0].cpu() > 0.5
        regions = metric_regions(verts, self._parsed.head_model, frame.camera, foreground)
        return image_metrics(rgb, truth, regions, lpips), {
            "img": torch.cat([truth, rgb], dim=1),
            "error": (rgb - truth).abs(),
            "parts": outputs["parts"],
            "deformation": outputs["deformation"],
        }

    def true_image(self, batch: dict[str, Any]) -> Float[Tensor, "height width 3"]:
        """The image of a batch over the avatar's background, which may differ from that of the capture; on the CPU."""
        difference = self.avatar.background.cpu() - torch.tensor(self._parsed.background)
        return batch["image"].cpu() + (1 - batch["mask"].cpu()) * difference

    def _pose(self, timestep: int) -> Float[np.ndarray, "verts 3"]:
        """Posed vertices of the tracked head, world frame, metres."""
        head = self.avatar.head
        state = self._parsed.capture.track[timestep].to(head.verts_rest.device)
        return head.surface(state).detach().cpu().numpy()

    # -- viewer --------------------------------------------------------------------------------------------------

    @property
    def needs_baking(self) -> bool:
        """Whether the next image must wait for `bake`."""
        return self.image_renderer.needs_baking

    def bake(self) -> None:
        """Bake the avatar if images are fast, which takes seconds."""
        self.image_renderer.bake()

    def degrees_from_training(self, camera: Cameras) -> float:
        """Angle between a camera's view of the head and the nearest training view, degrees."""
        return self.pages.degrees_from_training(camera, self._select_head(camera))

    def front_of_face(self, distance: float) -> FrontView:
        """The view from straight in front of the face that pages show now, at a distance in metres."""
        return self.pages.front_of_face(distance)
