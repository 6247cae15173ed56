"""The processes that share one job, as torchrun starts them. Alone there is one, and nothing is sent.

Each of them holds the data and the synthetic images, draws the same random numbers and takes the same steps; the
classes of a matching step, the images of a network's batch, experts and evaluations are shared out. What they found is
summed over all of them, so that they stay alike. The first one writes the files and does the talking.
"""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fairdd_cli.errors import UsageError, WorkError

GIVEN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # by torchrun, in the environment
PATIENCE = timedelta(hours=12)  # for one that makes experts or writes a large file; a lost one is noticed at once


@dataclass
class Processes:
    """Process `rank` of `count`, or of the `team` of them that a class of images is shared out to."""

    rank: int = 0
    count: int = 1
    team: Any = None  # torch's handle; None is all of them
    sent: int = field(default=0, compare=False)  # bytes that were summed so far

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of 0 … count."""
        return slice(self.rank * count // self.count, (self.rank + 1) * count // self.count)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the `tensor` of each process, in place; raises WorkError where one of them is gone."""
        if self.count > 1:
            self.sent += tensor.nbytes
            try:
                dist.all_reduce(tensor, group=self.team)
            except RuntimeError as error:
                raise WorkError(
                    f"process {dist.get_rank()} of {dist.get_world_size()} lost another one: "
                    f"{str(error).splitlines()[0][:150]}"
                ) from error
        return tensor

    def for_classes(self, classes: int) -> tuple[slice, "Processes"]:
        """The classes out of `classes` that are this process's, and those that share its images with it."""
        if self.count <= classes:
            return self.share(classes), Processes()
        mine = Processes()
        for label in range(classes):  # every process must help to form every team
            ranks = list(range(label, self.count, classes))
            team = dist.new_group(ranks)
            if self.rank in ranks:
                mine = Processes(ranks.index(self.rank), len(ranks), team)
        label = self.rank % classes
        return slice(label, label + 1), mine


def share_gradient(processes: Processes, parameters: Sequence[Tensor]) -> None:
    """Sums the gradients of `parameters` over the processes, those that have none counting as zero."""
    if processes.count == 1:
        return
    parts = [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in parameters]
    total = processes.sum(torch.cat(parts))
    for each, part in zip(parameters, torch.split(total, [each.numel() for each in parameters]), strict=True):
        each.grad = part.view(each.shape)


def started_together() -> bool:
    """Whether torchrun started this process with others."""
    return all(name in os.environ for name in GIVEN) and int(os.environ["WORLD_SIZE"]) > 1


def join(backend: str) -> Processes:
    """Meets the processes that torchrun started with this one; alone where it started none."""
    if not started_together():
        return Processes()
    if not dist.is_initialized():
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"the processes cannot meet by {backend}: {str(error).splitlines()[0][:200]}") from error
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())
