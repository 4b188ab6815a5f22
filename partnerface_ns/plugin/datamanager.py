"""The data manager: training rays from uint8 images in memory, evaluation one image at a time.

Images are read when the first training batch is asked for, so evaluation, rendering and the viewer never hold the
training set. Rays of a step come from few frames and carry only their timestep: the head is posed a few times a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional, Tuple, Type

import numpy as np
import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from PIL import Image
from rich.progress import track

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.plugin.dataparser import FlameDataParserConfig, ParsedCapture, scaled
from partnerface_ns.rendering.rays import RayBatch
from partnerface_ns.training.rays import RaySampler, RaySamplerConfig, TrainingImages, region_boxes


@dataclass
class PartnerfaceDataManagerConfig(VanillaDataManagerConfig):
    """Images and rays."""

    _target: Type = field(default_factory=lambda: PartnerfaceDataManager)
    """Target class to instantiate."""
    dataparser: AnnotatedDataParserUnion = field(default_factory=FlameDataParserConfig)
    """Where the capture is and which head model it was tracked with."""
    sampler: RaySamplerConfig = field(default_factory=RaySamplerConfig)
    """Rays of a training step."""
    seed: tyro.conf.Suppress[int] = 0
    """Seed of ray sampling; a training run sets it to `machine.seed`."""

    # nerfstudio's own ways of caching and sampling, which `sampler` replaces: hidden from the command line.
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
        self._recorded: tuple[Frame, ...] = self.metadata["frames"]
        self.frames = tuple(scaled(frame, self.metadata["scale"]) for frame in self._recorded)

    def image(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Colours (height, width, 3) and mask (height, width), uint8; zeros for a frame without an image."""
        from partnerface_ns.capture.images import load_image

        camera = self.frames[index].camera
        if self._recorded[index].image_path is None:
            size = (camera.height, camera.width)
            return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
        rgb, mask = load_image(self._recorded[index], self.parsed.background)
        if rgb.shape[:2] == (camera.height, camera.width):
            return rgb, mask
        resize = lambda a: np.array(  # noqa: E731
            Image.fromarray(a).resize((camera.width, camera.height), Image.Resampling.BOX)
        )
        return resize(rgb), resize(mask)

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        return self.image(image_idx)[0]

    def get_data(self, image_idx: int, image_type: str = "float32") -> dict[str, Any]:
        """The image (float32 in [0, 1], or uint8), its mask in [0, 1], and the frame that it shows."""
        rgb, mask = self.image(image_idx)
        image = torch.from_numpy(rgb)
        return {
            "image_idx": image_idx,
            "image": image.float() / 255 if image_type == "float32" else image,
            "mask": torch.from_numpy(mask)[..., None].float() / 255,
            "frame": self.frames[image_idx],
        }


class PartnerfaceDataManager(VanillaDataManager[FrameDataset]):
    """Gives training rays and evaluation cameras."""

    config: PartnerfaceDataManagerConfig
    train_dataset: FrameDataset
    eval_dataset: FrameDataset
    frames_of_batch: list[Frame]
    """Of the last training step."""

    def create_train_dataset(self) -> FrameDataset:
        return FrameDataset(self.train_dataparser_outputs)

    def create_eval_dataset(self) -> FrameDataset:
        return FrameDataset(self.dataparser.get_dataparser_outputs(split=self.test_split))

    def setup_train(self) -> None:
        """Nothing yet: images are read for the first batch, or by `load_images`."""
        self._sampler: RaySampler | None = None

    def setup_eval(self) -> None:
        """Loaders of whole evaluation images, read one at a time."""
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(self.eval_dataset, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(self.eval_dataset, device=self.device)

    def load_images(self) -> None:
        """Read all training images into memory, with a progress bar.

        Raises:
            InputError: an image is missing or cannot be used.
        """
        if self._sampler is None:
            indices = track(range(len(self.train_dataset)), "Reading training images", transient=True)
            images = _images(self.train_dataset, indices)
            self._sampler = RaySampler(self.config.sampler, images, self.config.seed + self.local_rank)

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """The rays of a training step, and the colours and masks that they should see."""
        return self._bundle(self.next_rays(step))

    def next_rays(self, step: int) -> RayBatch:
        """The same as the avatar takes it, on the CPU."""
        self.load_images()
        self.train_count += 1
        assert self._sampler is not None
        batch = self._sampler.sample(step)
        self.frames_of_batch = [self.train_dataset.frames[i] for i in batch.image_index.tolist()]
        return batch

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Rays of one evaluation image, chosen by the step."""
        self.eval_count += 1
        images = _images(self.eval_dataset, [step % len(self.eval_dataset)])
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
        of_rays = lambda values: values[:, None, None].expand_as(batch.mask).clone()  # noqa: E731
        bundle = RayBundle(
            origins=batch.rays.origins,
            directions=batch.rays.directions,
            pixel_area=torch.ones_like(batch.mask),
            camera_indices=of_rays(batch.image_index),
            metadata={"timestep": of_rays(batch.timesteps)},
        )
        return bundle.to(self.device), {"image": batch.rgb.to(self.device), "mask": batch.mask.to(self.device)}


def _images(dataset: FrameDataset, indices: Iterable[int]) -> TrainingImages:
    """Some of a dataset's images, with the boxes of mouth and eyes that rays are aimed at."""
    capture, chosen, rgb, mask = dataset.parsed.capture, [], [], []
    for index in indices:
        frame = dataset.frames[index]
        if frame.image_path is None:
            raise InputError(capture.root, "cannot be trained on", found=f"no image of timestep {frame.timestep}")
        colors, foreground = dataset.image(index)
        chosen.append(frame)
        rgb.append(colors)
        mask.append(foreground)
    head = ShapedHead.of(dataset.parsed.head_model, capture.identity, capture.static_offset)
    return TrainingImages(rgb, mask, chosen, region_boxes(head, capture.track, chosen))
