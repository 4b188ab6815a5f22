"""Two processes on the CPU that train one run, as nerfstudio starts one for each GPU. nerfstudio itself needs CUDA."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from nerfstudio.engine.trainer import writer
from nerfstudio.pipelines import base_pipeline
from nerfstudio.utils import comms
from torch.nn.parallel import DistributedDataParallel

from partnerface_ns.plugin import schedule_callback
from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig

NUM_PROCESSES = 2


def train_in_two_processes(folder: Path, *configs: PartnerfaceTrainerConfig) -> list[list[dict[str, Any]]]:
    """Train runs one after the other; for each run what each of the processes has in the end.

    Args:
        folder: a folder for files that the processes share.
        configs: the runs, ready to train.

    Returns:
        For each run and process: `state` (the weights), `last_step`, `pixels` (the pixels of the last batch), and
        `not_shared` (the tensors that processes do not send each other).
    """
    mp.spawn(_train, (folder, configs), nprocs=NUM_PROCESSES)
    return [
        [torch.load(folder / f"{number}_{rank}.pt", weights_only=True) for rank in range(NUM_PROCESSES)]
        for number in range(len(configs))
    ]


def _train(rank: int, folder: Path, configs: tuple[PartnerfaceTrainerConfig, ...]) -> None:
    sys.argv = ["ns-train"]
    torch.set_num_threads(1)
    _replace_what_needs_cuda()
    address = f"file://{folder / 'address'}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=NUM_PROCESSES)
    comms.LOCAL_PROCESS_GROUP = dist.new_group(list(range(NUM_PROCESSES)))
    ticks = itertools.count(step=0.02 * (1 + rank))  # a step takes the second process twice the time
    schedule_callback.time = SimpleNamespace(perf_counter=lambda: next(ticks))  # type: ignore[assignment]
    for number, config in enumerate(configs):
        for stored in (writer.EVENT_WRITERS, writer.EVENT_STORAGE, writer.GLOBAL_BUFFER):
            stored.clear()
        seed = config.machine.seed + rank  # as nerfstudio seeds its processes
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        trainer = config.setup(local_rank=rank, world_size=NUM_PROCESSES)
        trainer.setup()
        batches, sample = [], trainer.pipeline.datamanager.next_rays
        trainer.pipeline.datamanager.next_rays = lambda step: batches.append(sample(step)) or batches[-1]  # noqa: B023
        trainer.train()
        state, pixels = dict(trainer.pipeline.model.state_dict()), batches[-1].pixels
        not_shared = sorted(trainer.pipeline._model.parameters_to_ignore)
        result = {"state": state, "last_step": trainer.last_step, "pixels": pixels, "not_shared": not_shared}
        torch.save(result, folder / f"{number}_{rank}.pt")
    dist.destroy_process_group()


class _ParallelOnCpu(DistributedDataParallel):
    """nerfstudio names a GPU for each process; a process on the CPU has none."""

    def __init__(self, module: torch.nn.Module, device_ids: list[int], **options: Any) -> None:
        super().__init__(module, **options)


def _replace_what_needs_cuda() -> None:
    barrier = dist.barrier
    base_pipeline.DDP = _ParallelOnCpu
    dist.barrier = lambda device_ids: barrier()  # type: ignore[assignment]
