"""The trainer and its configuration: what a run is given before it starts, and how it ends."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional, Type

import torch
import tyro
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer, TrainerConfig
from nerfstudio.utils.rich_utils import CONSOLE

from partnerface_ns.avatar.file_format import AVATAR_NAME, AvatarInfo, save_avatar
from partnerface_ns.capture.held_out import require_trainable
from partnerface_ns.common.command_lines import commands_after_training
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin.checkpoints import (
    Checkpoint,
    checkpoints_in,
    newest_checkpoint,
    read_checkpoint,
    written_whole,
)
from partnerface_ns.plugin.dataparser import FlameDataParserConfig, absolute_head_model, head_model_source
from partnerface_ns.plugin.guarded_optimizers import GuardedOptimizers
from partnerface_ns.plugin.pipeline import PartnerfacePipeline, PartnerfacePipelineConfig
from partnerface_ns.training.captured_step import CapturedStep
from partnerface_ns.training.loop import PlainStep
from partnerface_ns.training.step_guard import StepGuard, StepResult


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam in one kernel, as in the training loop outside nerfstudio."""

    eps: float = 1e-15
    """The epsilon value to use."""
    fused: tyro.conf.Suppress[bool] = True
    """One kernel updates all parameters of a group; only such a one can leave out a step on a GPU by itself."""


@dataclass
class PartnerfaceTrainerConfig(TrainerConfig):
    """A training run."""

    _target: Type = field(default_factory=lambda: PartnerfaceTrainer)
    """Target class to instantiate."""
    pipeline: PartnerfacePipelineConfig = field(default_factory=PartnerfacePipelineConfig)
    """Pipeline configuration"""
    max_num_iterations: int = 30_000
    """Steps of the whole run, those before a resume included."""
    max_train_minutes: Optional[float] = None
    """Minutes of training steps after which the run ends, if that is before `max_num_iterations`; evaluation, saving
    and pauses do not count. Stages and learning rates follow whichever is further."""
    head_model: Optional[Path] = None
    """Alias for the dataparser's --head-model"""

    def set_timestamp(self) -> None:
        """Also make the run independent of the folder it was started in, and check its data.

        nerfstudio calls this once, before it writes config.yml; nothing of the run is on disk until the data and the
        checkpoint to go on from were found to be usable.
        """
        if self.pipeline.run_folder is not None:  # ns-train --load-config: a run's settings for a new run
            self.timestamp, self.pipeline.run_folder = "{timestamp}", None
        super().set_timestamp()
        self._resolve_paths()
        self._check_resume()
        self.pipeline.datamanager.seed = self.machine.seed
        self.pipeline.run_folder = self.get_base_dir()

    def get_base_dir(self) -> Path:
        """The run's folder: where it was read from, else where it is trained."""
        return self.pipeline.run_folder or super().get_base_dir()

    def open_run(self, folder: Path) -> Checkpoint:
        """Take the newest whole checkpoint of a folder, wherever the run was trained.

        Raises:
            InputError: there is none.
        """
        self.pipeline.run_folder = folder.resolve()
        checkpoint = newest_checkpoint(self.get_checkpoint_dir())
        self.load_step = checkpoint.load_step
        return checkpoint

    def _check_resume(self) -> None:
        """Find the checkpoint to go on from, and something that is left to train.

        Raises:
            InputError: there is none.
        """
        if self.load_dir is not None:
            if (self.load_dir / self.relative_model_dir).is_dir():  # the run's own folder
                self.load_dir = self.load_dir / self.relative_model_dir
            if self.load_step is None:
                checkpoint = newest_checkpoint(self.load_dir)
                self.load_step = checkpoint.load_step
            else:
                checkpoint = read_checkpoint(self.load_dir / f"step-{self.load_step:09d}.ckpt")
        elif self.load_checkpoint is not None:
            checkpoint = read_checkpoint(self.load_checkpoint)
        else:
            return
        steps, minutes = checkpoint.step + 1, checkpoint.trained_minutes
        asked = f"--max-num-iterations {self.max_num_iterations}"
        if self.max_train_minutes is not None:
            asked += f" --max-train-minutes {self.max_train_minutes:g}"
        most = math.inf if self.max_train_minutes is None else self.max_train_minutes
        if steps >= self.max_num_iterations or minutes >= most:
            raise InputError(
                checkpoint.path,
                "nothing is left to train",
                expected=f"more than was trained, not {asked}",
                found=f"{steps} steps, {minutes:.2f} minutes trained",
                hint="both count from the run's beginning; raise the one that is used up",
            )

    def _resolve_paths(self) -> None:
        dataparser = self.pipeline.datamanager.dataparser
        if not isinstance(dataparser, FlameDataParserConfig):
            raise InputError(
                str(self.method_name),
                "reads tracked captures only",
                expected="flame-data",
                found=type(dataparser).__name__,
            )
        data = (self.pipeline.datamanager.data or dataparser.data).resolve()
        self.data = self.pipeline.datamanager.data = dataparser.data = data
        self.output_dir = self.output_dir.resolve()
        self.load_dir = self.load_dir and self.load_dir.resolve()
        self.load_checkpoint = self.load_checkpoint and self.load_checkpoint.resolve()
        given = self.head_model or dataparser.head_model
        dataparser.head_model = given and absolute_head_model(given)
        capture = dataparser.setup().parse_capture().capture
        require_trainable(capture)
        # An avatar driven by another capture must find its own head model.
        self.head_model = dataparser.head_model = head_model_source(capture, dataparser.head_model)


class PartnerfaceTrainer(Trainer):
    """Trains until the steps or the minutes are done."""

    config: PartnerfaceTrainerConfig
    pipeline: PartnerfacePipeline
    optimizers: GuardedOptimizers
    last_step: int = -1
    """The last step that was trained."""
    _step: CapturedStep | PlainStep | None = None

    def __init__(self, config: TrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        """Also switch off what cannot change the avatar's precision and would scale its gradients."""
        if config.mixed_precision or config.use_grad_scaler:
            config.mixed_precision = config.use_grad_scaler = False
            CONSOLE.print(
                "The avatar chooses its precision by itself (--pipeline.model.avatar.bfloat16): "
                "--mixed-precision and --use-grad-scaler do nothing."
            )
        super().__init__(config, local_rank, world_size)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Also read the training images, so that a bad one stops the run before its first step."""
        super().setup(test_mode)
        self.last_step = self._start_step - 1
        self._guard = StepGuard(self.base_dir, self.optimizers.optimizers.values())
        if test_mode != "inference":
            self.pipeline.datamanager.load_images()

    def setup_optimizers(self) -> GuardedOptimizers:
        return GuardedOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def train(self) -> None:
        """Train; a run that was done already is left as it is, Ctrl-C saves what was trained."""
        minutes = float(self.pipeline.model.trained_seconds) / 60
        if self._start_step >= self.config.max_num_iterations or (
            self.config.max_train_minutes is not None and minutes >= self.config.max_train_minutes
        ):
            CONSOLE.print(
                f"This run is done: {self._start_step} steps, {minutes:.1f} minutes. "
                "Raise --max-num-iterations or --max-train-minutes to train on."
            )
            self._say_what_is_next(self.last_step)
            return
        try:
            super().train()
        except KeyboardInterrupt:
            if self.training_state == "completed":  # the viewer stays open after training until Ctrl-C
                return
            if self.last_step >= self._start_step:
                self.save_checkpoint(self.last_step)
                CONSOLE.print(f"Stopped. Train on with: --load-dir {self.checkpoint_dir}")
            raise SystemExit(130) from None

    def train_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """One step; a step that is not finite is left out.

        Raises:
            InputError: too many steps in a row are not finite.
        """
        gathered = any(number != 1 for number in self.config.gradient_accumulation_steps.values())
        if self.world_size > 1 or gathered or self.config.log_gradients:
            return self._nerfstudio_iteration(step)
        return self._own_iteration(step)

    def _own_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """The avatar computes gradients by itself, on a GPU from a recording, many times as fast."""
        avatar, datamanager = self.pipeline.model.avatar, self.pipeline.datamanager
        if self._step is None:
            make = CapturedStep if avatar.identity.is_cuda else PlainStep
            self._step = make(avatar, datamanager.train_dataset.parsed.capture.track)
        result = self._step(datamanager.next_rays(step))
        self._guard.admit(step, result, datamanager.frames_of_batch)
        self.optimizers.optimizer_step_all()
        metrics = {"psnr": -10 * torch.log10(result.squared_error.mean())}
        return torch.stack(list(result.terms.values())).sum(), result.terms, metrics

    def _nerfstudio_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """nerfstudio computes gradients: it alone gathers them over steps or GPUs, and logs them."""
        found = super().train_iteration(step)
        _, terms, metrics = found
        frames = self.pipeline.datamanager.frames_of_batch
        squared_error = (10 ** (-metrics["psnr"] / 10)).expand(len(frames))
        self._guard.note(step, StepResult(terms, squared_error, self.optimizers.gradient_norms), frames)
        return found

    def _after_train(self) -> None:
        """Also say what to run next, before a viewer that stays open and shows fast images from now on."""
        self._guard.end()
        self.pipeline.model.fast = True
        self.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], self._say_what_is_next))
        super()._after_train()

    def _say_what_is_next(self, step: int) -> None:
        if Path(sys.argv[0]).stem == "ns-train":  # the demo goes on by itself
            print("Next:", *commands_after_training(self.base_dir), sep="\n  ", flush=True)

    def save_checkpoint(self, step: int) -> None:
        """Save under the last step that was trained; a run that is stopped has counted one further.

        The avatar is also written by itself, for all that shows it without nerfstudio.

        Raises:
            InputError: it cannot be written; the checkpoint before is whole.
        """
        folder = self.checkpoint_dir
        with written_whole(folder) as self.checkpoint_dir:
            try:
                super().save_checkpoint(self.last_step)
            finally:
                self.checkpoint_dir = folder
        if self.config.save_only_latest_checkpoint:
            for path in checkpoints_in(folder):
                if path.name != f"step-{self.last_step:09d}.ckpt":
                    path.unlink()
        parsed = self.pipeline.datamanager.train_dataset.parsed
        source = head_model_source(parsed.capture, self.config.head_model)
        info = AvatarInfo.of(parsed.capture, parsed.head_model, source)
        save_avatar(self.base_dir / AVATAR_NAME, self.pipeline.model.avatar, info)
