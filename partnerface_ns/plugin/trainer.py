"""The trainer and its configuration: checks before a run, training steps, and checkpoints."""

from __future__ import annotations

import atexit
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional, Type

import torch
import tyro
import yaml
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.trainer import TRAIN_INTERATION_OUTPUT, Trainer, TrainerConfig
from nerfstudio.utils import comms
from nerfstudio.utils.rich_utils import CONSOLE

from partnerface_ns.avatar.file_format import AVATAR_NAME, AvatarInfo, save_avatar
from partnerface_ns.capture.held_out import require_trainable
from partnerface_ns.capture.image_memory import require_memory
from partnerface_ns.capture.names import SplitName
from partnerface_ns.common.atomic import write_text
from partnerface_ns.common.command_lines import commands_after_training
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.files import require_writable, write_failure
from partnerface_ns.common.locks import lock_folder
from partnerface_ns.plugin.checkpoints import (
    Checkpoint,
    delete_other_checkpoints,
    find_checkpoint,
    find_newest_weights,
    list_checkpoints,
    read_checkpoint,
    require_budget_left,
    write_complete_checkpoints,
)
from partnerface_ns.plugin.dataparser import FlameDataParserConfig, absolute_head_model, head_model_source
from partnerface_ns.plugin.guarded_optimizers import GuardedOptimizers
from partnerface_ns.plugin.pipeline import PartnerfacePipeline, PartnerfacePipelineConfig
from partnerface_ns.training.captured_step import CapturedStep
from partnerface_ns.training.loop import PlainStep
from partnerface_ns.training.step_guard import StepGuard, StepResult

_RESUME_HINT = "free some space, then resume with --load-dir; the newest checkpoint is complete"


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam in one kernel, as in the training loop outside nerfstudio."""

    eps: float = 1e-15
    """Added to the denominator of Adam's update."""
    fused: tyro.conf.Suppress[bool] = True
    """Update all parameters of a group in one kernel, which can also skip a step without the CPU."""


@dataclass
class PartnerfaceTrainerConfig(TrainerConfig):
    """Settings of a training run."""

    _target: Type = field(default_factory=lambda: PartnerfaceTrainer)
    """Target class to instantiate."""
    pipeline: PartnerfacePipelineConfig = field(default_factory=PartnerfacePipelineConfig)
    """Settings of data and model."""
    max_num_iterations: int = 45_000
    """Steps of the whole run, including those before a resume."""
    max_train_minutes: Optional[float] = None
    """Minutes of training steps after which the run ends, if that is before `max_num_iterations`. Evaluation, saving
    and pauses do not count. The schedule follows the limit of which a larger share is used up."""
    head_model: Optional[Path] = None
    """Alias for the dataparser's --head-model."""
    split: Optional[SplitName] = None
    """Alias for the dataparser's --split."""

    def set_timestamp(self) -> None:
        """Also check the run's data and checkpoint, and make its paths absolute.

        nerfstudio calls this once, before it writes config.yml. Nothing of the run is on disk before these checks.
        """
        if self.pipeline.run_folder is not None:  # ns-train --load-config: a run's settings for a new run
            self.timestamp, self.pipeline.run_folder = "{timestamp}", None
            self.load_dir = self.load_step = self.load_checkpoint = None
        super().set_timestamp()
        self._resolve_paths()
        self._check_resume()
        require_writable(self.get_base_dir(), "choose another --output-dir")
        self.pipeline.datamanager.seed = self.machine.seed
        self.pipeline.run_folder = self.get_base_dir()

    def save_config(self) -> None:
        """Write config.yml atomically, and hold the lock of the run's folder until the process ends.

        Raises:
            InputError: another process trains in this folder, or the folder holds a run that this one would replace, or
                it cannot be written.
        """
        folder = self.get_base_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as lock:
                lock.enter_context(lock_folder(folder))
                self._require_no_other_run()
                write_text(folder / "config.yml", yaml.dump(self))
                atexit.register(lock.pop_all().close)
        except OSError as error:
            raise write_failure(folder, error) from error

    def _require_no_other_run(self) -> None:
        """Check that the run's folder has no checkpoints, unless this run continues from them.

        Raises:
            InputError: it has checkpoints, which training from the start would replace.
        """
        checkpoints = list_checkpoints(self.get_checkpoint_dir())
        resumed = self.load_dir or (self.load_checkpoint and self.load_checkpoint.parent)
        if checkpoints and (resumed is None or resumed.resolve() != self.get_checkpoint_dir().resolve()):
            raise InputError(
                self.get_base_dir(),
                "already holds a run",
                expected="no checkpoints",
                actual=checkpoints[-1].name,
                hint=f"to continue it, repeat the command with --load-dir {self.get_checkpoint_dir()}; "
                "for a new run, choose another --timestamp",
            )

    def get_base_dir(self) -> Path:
        """The run's folder: the folder of its config.yml if it was read from there."""
        return self.pipeline.run_folder or super().get_base_dir()

    def open_run(self, folder: Path) -> Checkpoint:
        """Read a run's newest complete checkpoint, or its avatar file if there is none. The run may have been moved.

        Raises:
            InputError: there is neither a complete checkpoint nor a complete avatar file.
        """
        self.pipeline.run_folder = folder.resolve()
        checkpoint = find_newest_weights(self.get_checkpoint_dir(), self.get_base_dir() / AVATAR_NAME)
        self.load_step = checkpoint.load_step
        return checkpoint

    def _check_resume(self) -> None:
        """Check that the checkpoint to resume from is usable, and that something is left to train.

        Raises:
            InputError: one of these is not true.
        """
        if self.load_dir is not None:
            if (self.load_dir / self.relative_model_dir).is_dir():  # the run's own folder
                self.load_dir = self.load_dir / self.relative_model_dir
            checkpoint = find_checkpoint(self.load_dir, self.load_step)
            self.load_step = checkpoint.load_step
        elif self.load_checkpoint is not None:
            checkpoint = read_checkpoint(self.load_checkpoint)
        else:
            return
        require_budget_left(checkpoint, self.max_num_iterations, self.max_train_minutes)

    def _resolve_paths(self) -> None:
        dataparser = self.pipeline.datamanager.dataparser
        if not isinstance(dataparser, FlameDataParserConfig):
            raise InputError(
                str(self.method_name),
                "reads tracked captures only",
                expected="flame-data",
                actual=type(dataparser).__name__,
            )
        data = (self.pipeline.datamanager.data or dataparser.data).resolve()
        self.data = self.pipeline.datamanager.data = dataparser.data = data
        self.output_dir = self.output_dir.resolve()
        self.load_dir = self.load_dir and self.load_dir.resolve()
        self.load_checkpoint = self.load_checkpoint and self.load_checkpoint.resolve()
        given = self.head_model or dataparser.head_model
        dataparser.head_model = given and absolute_head_model(given)
        self.split = dataparser.split = self.split or dataparser.split
        capture = dataparser.setup().parse_capture().capture
        require_trainable(capture)
        require_memory(capture, dataparser.downscale_factor or 1.0, self.machine.num_devices)
        # When another capture drives the avatar later, the avatar still needs its own head model.
        self.head_model = dataparser.head_model = head_model_source(capture, dataparser.head_model)


class PartnerfaceTrainer(Trainer):
    """Trains until a limit in steps or minutes is reached."""

    config: PartnerfaceTrainerConfig
    pipeline: PartnerfacePipeline
    optimizers: GuardedOptimizers
    last_step: int = -1
    """The last step that was trained."""
    _step: CapturedStep | PlainStep | None = None
    _validates: bool = True

    def __init__(self, config: TrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        """Also switch off mixed precision and the gradient scaler. The avatar has its own precision setting."""
        if config.mixed_precision or config.use_grad_scaler:
            config.mixed_precision = config.use_grad_scaler = False
            CONSOLE.print(
                "The avatar's precision is set by --pipeline.model.avatar.bfloat16. "
                "--mixed-precision and --use-grad-scaler do nothing."
            )
        super().__init__(config, local_rank, world_size)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Also read the training images, so that a bad image ends the run before its first step."""
        super().setup(test_mode)
        self.last_step = self._start_step - 1
        self._guard = StepGuard(self.base_dir, self.optimizers.optimizers.values())
        if test_mode != "inference":
            self.pipeline.datamanager.load_images()
            face, hair, torso = (100 * self.pipeline.model.avatar.reach).tolist()
            CONSOLE.print(
                f"Density may be up to {face:.1f} cm from the face, {torso:.1f} cm from the torso, "
                f"and {hair:.1f} cm from the rest of the head."
            )

    def setup_optimizers(self) -> GuardedOptimizers:
        return GuardedOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def train(self) -> None:
        """Train the run, unless it is complete. Ctrl-C saves a checkpoint."""
        minutes = float(self.pipeline.model.trained_seconds) / 60
        if self._start_step >= self.config.max_num_iterations or (
            self.config.max_train_minutes is not None and minutes >= self.config.max_train_minutes
        ):
            CONSOLE.print(
                f"This run is complete: {self._start_step} steps, {minutes:.1f} minutes. "
                "Raise --max-num-iterations or --max-train-minutes to continue."
            )
            self._print_next_commands(self.last_step)
            return
        try:
            super().train()
        except BrokenPipeError:
            raise
        except OSError as error:  # of nerfstudio's own logs
            raise write_failure(self.base_dir, error, _RESUME_HINT) from error
        except KeyboardInterrupt:
            if self.training_state == "completed":  # the viewer stays open after training until Ctrl-C
                return
            if self.last_step >= self._start_step:
                self.save_checkpoint(self.last_step)
                CONSOLE.print(f"Stopped. Resume with: --load-dir {self.checkpoint_dir}")
            raise SystemExit(130) from None

    def train_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """Train one step. A step with a value that is not finite is skipped.

        Raises:
            InputError: too many steps in a row are skipped.
        """
        accumulates = any(number != 1 for number in self.config.gradient_accumulation_steps.values())
        if self.world_size > 1 or accumulates or self.config.log_gradients:
            return self._nerfstudio_iteration(step)
        return self._own_iteration(step)

    def _own_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """Compute gradients without nerfstudio. On a GPU this replays a CUDA graph, which is many times faster."""
        avatar, datamanager = self.pipeline.model.avatar, self.pipeline.datamanager
        if self._step is None:
            step_type = CapturedStep if avatar.identity.is_cuda else PlainStep
            self._step = step_type(avatar, datamanager.train_dataset.parsed.capture.track)
        result = self._step(datamanager.next_rays(step))
        self._guard.admit(step, result, datamanager.frames_of_batch)
        self.optimizers.optimizer_step_all()
        metrics = {"psnr": -10 * torch.log10(result.squared_error.mean())}
        return torch.stack(list(result.terms.values())).sum(), result.terms, metrics

    def _nerfstudio_iteration(self, step: int) -> TRAIN_INTERATION_OUTPUT:
        """Let nerfstudio compute gradients, which it can accumulate, average over GPUs, and log."""
        loss, terms, metrics = super().train_iteration(step)
        frames = self.pipeline.datamanager.frames_of_batch
        squared_error = (10 ** (-metrics["psnr"] / 10)).expand(len(frames))
        self._guard.note(step, StepResult(terms, squared_error, self.optimizers.gradient_norms), frames)
        return loss, terms, metrics

    def eval_iteration(self, step: int) -> None:
        """Validate if it is time to. Training goes on if a validation image was moved or changed since it began."""
        try:
            if self._validates:
                super().eval_iteration(step)
        except InputError as error:
            self._validates = False
            self.pipeline.train()
            print(f"{error}\nTraining goes on without validation.", file=sys.stderr, flush=True)

    def _after_train(self) -> None:
        """Also print the next commands, and let a viewer that stays open show fast images."""
        self._guard.end()
        self.pipeline.model.image_renderer.fast = True
        self.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], self._print_next_commands))
        super()._after_train()

    def _print_next_commands(self, step: int) -> None:
        if Path(sys.argv[0]).stem == "ns-train":  # the demo prints its own
            print("Next:", *commands_after_training(self.base_dir), sep="\n  ", flush=True)

    def save_checkpoint(self, step: int) -> None:
        """Save a checkpoint of the last trained step, and the avatar file for use without nerfstudio.

        Args:
            step: unused, because it is one too high in a run that is stopped.

        Raises:
            InputError: they cannot be written. The previous checkpoint stays complete.
        """
        if not comms.is_main_process():
            return
        folder = self.checkpoint_dir
        with write_complete_checkpoints(folder) as self.checkpoint_dir:
            try:
                super().save_checkpoint(self.last_step)
            finally:
                self.checkpoint_dir = folder
        if self.config.save_only_latest_checkpoint:
            delete_other_checkpoints(folder, self.last_step)
        parsed = self.pipeline.datamanager.train_dataset.parsed
        source = head_model_source(parsed.capture, self.config.head_model)
        info = AvatarInfo.of(parsed.capture, parsed.head_model, source)
        try:
            save_avatar(self.base_dir / AVATAR_NAME, self.pipeline.model.avatar, info)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            problem = "cannot be written; the checkpoint is complete"
            raise InputError(self.base_dir / AVATAR_NAME, problem, actual=shorten(error), hint=_RESUME_HINT) from error
