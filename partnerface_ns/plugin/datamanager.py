"""The data manager: training rays from uint8 images in memory, evaluation one image at a time.

Training images are read for the first training batch, so evaluation, rendering and the viewer never hold them. The rays
of a step come from a few frames and carry their timestep, so the head is posed a few times a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional, Tuple, Type

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.utils import comms
from PIL import Image
from rich.progress import track
from torch import Tensor

from partnerface_ns.capture.capture import Frame
from partnerface_ns.capture.diagnosis import find_bad_frames
from partnerface_ns.capture.plausibility import join_names
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.plugin.dataparser import FlameDataParserConfig, ParsedCapture, scale_frame
from partnerface_ns.rendering.rays import RayBatch
from partnerface_ns.training.rays import RaySampler, RaySamplerConfig, TrainingImages
from partnerface_ns.training.region_boxes import region_boxes

_REDUCED_SIDE = 128
"""Longer side of a reduced mask, pixels, at least."""


@dataclass
class PartnerfaceDataManagerConfig(VanillaDataManagerConfig):
    """Images and rays."""

    _target: Type = field(default_factory=lambda: PartnerfaceDataManager)
    """Target class to instantiate."""
    dataparser: AnnotatedDataParserUnion = field(default_factory=FlameDataParserConfig)
    """Folder of the capture, and its head model."""
    sampler: RaySamplerConfig = field(default_factory=RaySamplerConfig)
    """Rays of a training step."""
    seed: tyro.conf.Suppress[int] = 0
    """Seed of ray sampling; a training run sets it to `machine.seed`."""

    # nerfstudio's own settings for caching and sampling, which `sampler` replaces: hidden from the command line.
    train_num_rays_per_batch: tyro.conf.Suppress[int] = 0
    train_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    train_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    eval_num_rays_per_batch: tyro.conf.Suppress[int] = 0
    eval_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    eval_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    eval_image_indices: tyro.conf.Suppress[Optional[Tuple[int, ...]]] = None
    camera_res_scale_factor: tyro.conf.Suppress[float] = 1.0
    patch_size: tyro.conf.Suppress[int] = 1
    pixel_sampler: tyro.conf.Suppress[PixelSamplerConfig] = field(default_factory=PixelSamplerConfig)
    masks_on_gpu: tyro.conf.Suppress[bool] = False
    images_on_gpu: tyro.conf.Suppress[bool] = False


class FrameDataset(InputDataset):
    """Images composited on the background, with their masks and frames."""

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        super().__init__(dataparser_outputs, scale_factor)
        self.parsed: ParsedCapture = self.metadata["parsed_capture"]
        self._source_frames: tuple[Frame, ...] = self.metadata["frames"]
        self.frames = tuple(scale_frame(frame, self.metadata["scale"]) for frame in self._source_frames)

    def image(self, index: int) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """Colours and mask; both are zero for a frame without an image."""
        from partnerface_ns.capture.images import load_image

        camera = self.frames[index].camera
        if self._source_frames[index].image_path is None:
            size = (camera.height, camera.width)
            return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
        rgb, mask = load_image(self._source_frames[index], self.parsed.background)
        if rgb.shape[:2] == (camera.height, camera.width):
            return rgb, mask
        resize = lambda a: np.array(  # noqa: E731
            Image.fromarray(a).resize((camera.width, camera.height), Image.Resampling.BOX)
        )
        return resize(rgb), resize(mask)

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        return self.image(image_idx)[0]

    def get_data(self, image_idx: int, image_type: str = "float32") -> dict[str, Any]:
        """The image (float32 in [0, 1], or uint8), its mask in [0, 1], and its frame."""
        rgb, mask = self.image(image_idx)
        image = torch.from_numpy(rgb)
        return {
            "image_idx": image_idx,
            "image": image.float() / 255 if image_type == "float32" else image,
            "mask": torch.from_numpy(mask)[..., None].float() / 255,
            "frame": self.frames[image_idx],
        }


class PartnerfaceDataManager(VanillaDataManager[FrameDataset]):
    """Provides training rays and evaluation images."""

    config: PartnerfaceDataManagerConfig
    train_dataset: FrameDataset
    eval_dataset: FrameDataset
    frames_of_batch: list[Frame]
    """Frames of the last training batch."""

    def create_train_dataset(self) -> FrameDataset:
        return FrameDataset(self.train_dataparser_outputs)

    def create_eval_dataset(self) -> FrameDataset:
        return FrameDataset(self.dataparser.get_dataparser_outputs(split=self.test_split))

    def setup_train(self) -> None:
        """Do nothing. Images are read for the first batch, or by `load_images`."""
        self._sampler: RaySampler | None = None

    def setup_eval(self) -> None:
        """Create loaders that read one evaluation image at a time."""
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(self.eval_dataset, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(self.eval_dataset, device=self.device)

    def load_images(self) -> None:
        """Read all training images into memory, with a progress bar. A warning names frames with a misplaced head.

        Raises:
            InputError: an image is missing or cannot be used.
        """
        if self._sampler is None:
            indices = track(range(len(self.train_dataset)), "Reading training images", transient=True)
            images = _read_images(self.train_dataset, indices)
            _warn_of_misplaced_heads(self.train_dataset.parsed, images)
            self._sampler = RaySampler(self.config.sampler, images, self.config.seed)

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """The rays of a training step, with their true colours and masks."""
        return self._bundle(self.next_rays(step))

    def next_rays(self, step: int) -> RayBatch:
        """The rays of a training step in the avatar's form, on the CPU.

        The processes of a run on several GPUs draw the same rays and divide them.
        """
        self.load_images()
        self.train_count += 1
        assert self._sampler is not None
        batch = self._sampler.sample(step).share(comms.get_rank(), comms.get_world_size())
        self.frames_of_batch = [self.train_dataset.frames[i] for i in batch.image_index.tolist()]
        return batch

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Rays of one evaluation image, which the step selects."""
        self.eval_count += 1
        images = _read_images(self.eval_dataset, [step % len(self.eval_dataset)])
        sampler = RaySampler(self.config.sampler, images, self.config.seed)
        return self._bundle(sampler.sample(step))

    def next_eval_image(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """A random evaluation image."""
        return next(iter(self.eval_dataloader))

    def get_train_rays_per_batch(self) -> int:
        return self.config.sampler.rays_per_batch

    def get_eval_rays_per_batch(self) -> int:
        return self.config.sampler.rays_per_batch

    def _bundle(self, batch: RayBatch) -> tuple[RayBundle, dict[str, Any]]:
        bundle = RayBundle(
            origins=batch.rays.origins,
            directions=batch.rays.directions,
            pixel_area=torch.ones_like(batch.mask),
            camera_indices=_expand_to_rays(batch.image_index, batch),
            metadata={"timestep": _expand_to_rays(batch.timesteps, batch)},
        )
        return bundle.to(self.device), {"image": batch.rgb.to(self.device), "mask": batch.mask.to(self.device)}


def _expand_to_rays(values: Int[Tensor, "frames"], batch: RayBatch) -> Int[Tensor, "frames rays 1"]:
    """A value for each frame as a value for each ray, which nerfstudio's ray bundles need."""
    return values[:, None, None].expand_as(batch.mask).clone()


def _read_images(dataset: FrameDataset, indices: Iterable[int]) -> TrainingImages:
    """Read some of a dataset's images, and find the boxes of mouth, eyes and head."""
    capture, frames, rgb, mask = dataset.parsed.capture, [], [], []
    for index in indices:
        frame = dataset.frames[index]
        if frame.image_path is None:
            raise InputError(capture.root, "cannot be trained on", actual=f"no image of timestep {frame.timestep}")
        colors, foreground = dataset.image(index)
        frames.append(frame)
        rgb.append(colors)
        mask.append(foreground)
    head = ShapedHead.of(dataset.parsed.head_model, capture.identity, capture.static_offset)
    return TrainingImages(rgb, mask, frames, region_boxes(head, capture.track, frames))


def _warn_of_misplaced_heads(parsed: ParsedCapture, images: TrainingImages) -> None:
    """Name single training frames whose head and mask do not overlap, although those of most frames do."""
    masks = [_reduce_mask(mask) for mask in images.mask]
    bad = find_bad_frames(parsed.capture, parsed.head_model, list(zip(images.frames, masks, strict=True)))
    if bad:
        count = f"{len(bad)} of {len(masks)} training frames"
        names = join_names([frame.name for frame in bad])
        print(
            f"{parsed.capture.name}: Warning: the head lies outside of the mask in {count}: {names}. "
            "They are trained on; take them out of the capture if they are wrong."
        )


def _reduce_mask(mask: UInt8[np.ndarray, "height width"]) -> Bool[np.ndarray, "rows columns"]:
    """The foreground at low resolution, because the masks of a whole capture take much memory."""
    stride = max(1, max(mask.shape) // _REDUCED_SIDE)
    return mask[::stride, ::stride] > 127
