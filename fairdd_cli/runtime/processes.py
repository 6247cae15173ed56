"""The ranks of one run, as torchrun starts them. A run without torchrun is one rank and communicates nothing.

Every rank holds the data and the synthetic images, draws the same random numbers and takes the same steps. The classes
of a matching step, the images of a network's batch, experts and evaluations are sharded; the results are all-reduced,
so that the ranks stay equal. Rank 0 writes the files and the messages.
"""

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fairdd_cli.errors import UsageError, WorkError, first_line
from fairdd_cli.system import launched_by_torchrun

TIMEOUT = timedelta(hours=12)  # one rank may train experts or write a large file; a lost rank is noticed at once


@dataclass
class Processes:
    """Rank `rank` of `world_size` in a `group`: all ranks, or those that a class of images is sharded over."""

    rank: int = 0
    world_size: int = 1
    group: Any = None  # torch's handle; None is all of them
    bytes_reduced: int = field(default=0, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and messages."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """This rank's part of 0 … count."""
        return slice(self.rank * count // self.world_size, (self.rank + 1) * count // self.world_size)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of the `tensor` of all ranks, in place; raises WorkError where one of them is gone."""
        if self.world_size > 1:
            self.bytes_reduced += tensor.nbytes
            try:
                dist.all_reduce(tensor, group=self.group)
            except RuntimeError as error:
                raise WorkError(
                    f"rank {dist.get_rank()} of {dist.get_world_size()} lost another rank: {first_line(error)}"
                ) from error
        return tensor

    def for_classes(self, classes: int) -> tuple[slice, "Processes"]:
        """The classes out of `classes` that are this rank's, and the group that shares their images with it."""
        if self.world_size <= classes:
            return self.shard(classes), Processes()
        own = Processes()
        for label in range(classes):  # every rank must take part in forming every group
            ranks = list(range(label, self.world_size, classes))
            group = dist.new_group(ranks)
            if self.rank in ranks:
                own = Processes(ranks.index(self.rank), len(ranks), group)
        label = self.rank % classes
        return slice(label, label + 1), own


def all_reduce_gradients(processes: Processes, parameters: Sequence[Tensor]) -> None:
    """Sums the gradients of `parameters` over all ranks; a missing gradient counts as zero."""
    if processes.world_size == 1:
        return
    parts = [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in parameters]
    total = processes.all_reduce(torch.cat(parts))
    for each, part in zip(parameters, torch.split(total, [each.numel() for each in parameters]), strict=True):
        each.grad = part.view(each.shape)


def init_process_group(backend: str) -> Processes:
    """Joins the ranks that torchrun started; without torchrun the one rank there is."""
    if not launched_by_torchrun():
        return Processes()
    if not dist.is_initialized():
        try:
            dist.init_process_group(backend, timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"init_process_group failed with {backend}: {first_line(error)}") from error
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())
