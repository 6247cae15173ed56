"""The device that a run computes on, and how: precision, micro-batches, compilation, ranks."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch

from fairdd_cli.errors import UsageError, WorkError, first_line, unknown
from fairdd_cli.runtime import memory
from fairdd_cli.runtime.compilation import COMPILE_THRESHOLD, COMPILES, Fusible, compiler_works
from fairdd_cli.runtime.memory import Divisible, even_slices, out_of_memory
from fairdd_cli.runtime.precision import allow_tf32, check_precision, use_deterministic_algorithms
from fairdd_cli.runtime.processes import Processes, init_process_group
from fairdd_cli.system import __version__, cpu_model, launched_by_torchrun

Result = TypeVar("Result")
Values = TypeVar("Values", np.ndarray, torch.Tensor)


@dataclass
class Runtime:
    """Where and how a run computes.

    `micro_batch` is the number of images that pass through a network at a time, 0 for no limit: on a CPU few enough for
    the activations to stay in the cache, on a GPU, where launches cost, no limit. It is halved when memory runs out;
    results depend on it only in the rounding of sums. `forward_limit` takes its place without a backward pass where
    there is no limit. `compiles` says when the networks' memory-bound parts are compiled, and `compiled`, set by
    `decide_compiling`, whether they are.
    """

    device: torch.device
    precision: str = "fp32"
    micro_batch: int = 0
    compiles: str = "off"
    compiled: bool = False
    processes: Processes = field(default_factory=Processes)
    forward_limit: int = memory.FORWARD_PIXELS // 32**2

    def without_group(self) -> "Runtime":
        """The same runtime for work that each rank does by itself."""
        return replace(self, processes=Processes())

    @property
    def full_batch(self) -> bool:
        """Whether all classes go through the network together."""
        return self.micro_batch == 0

    def forward_batch(self, network: torch.nn.Module) -> int:
        """Images that pass through `network` at a time without a backward pass, 0 for any number."""
        divides = any(isinstance(part, Divisible) and part.most_values for part in network.modules())
        return memory.FORWARD_BATCHES * self.micro_batch if divides else self.micro_batch

    def inference_batch(self, network: torch.nn.Module) -> int:
        """The same for all images of a data set, where there is always a limit."""
        return self.forward_batch(network) or self.forward_limit

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """A block that computes in the chosen precision; matched signals are accumulated in fp32 regardless."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def decide_compiling(self, values: float) -> str:
        """Decides whether this run compiles, for `values` of all images through `Fusible` parts; returns the reason.

        The decision depends only on the run's size and the number of threads, so that a resumed run decides alike.
        Raises UsageError where it must but cannot.
        """
        pays = values >= COMPILE_THRESHOLD * torch.get_num_threads() and self.device.type == "cpu"
        if self.compiles == "off" or not values or (self.compiles == "auto" and not pays):
            self.compiled = False
            return f"not compiled ({values:.1e} values to gain from)"
        self.compiled = compiler_works(self.device)
        if not self.compiled and self.compiles == "on":
            raise UsageError("--compile on needs a C++ compiler that torch can use (g++ or clang++); none works here")
        return f"compiled ({values:.1e} values)" if self.compiled else "not compiled: no C++ compiler works here"

    def prepare_module(self, module: torch.nn.Module) -> torch.nn.Module:
        """`module` on the device, in the memory layout that its convolutions are fastest in, compiled if decided."""
        for part in module.modules():
            if isinstance(part, Fusible) and self.compiled:
                part.fused = part.fusible
            if isinstance(part, Divisible) and self.device.type == "cpu":
                part.most_values = memory.CACHED
        placed = module.to(self.device, non_blocking=True, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed  # type: ignore[no-any-return]

    def set_image_size(self, height: int, width: int) -> None:
        """Sets how many images of this size pass at a time: `micro_batch` is lowered where they are large for it."""
        self.forward_limit = max(1, memory.FORWARD_PIXELS // (height * width))
        if not self.full_batch:
            most = max(memory.LEAST_BATCH, memory.MICRO_PIXELS // (height * width))
            self.micro_batch = min(self.micro_batch, most)

    def to_device(self, array: np.ndarray | torch.Tensor) -> torch.Tensor:
        """`array` as a tensor on the device."""
        tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
        return tensor.to(self.device, non_blocking=True)

    def broadcast(self, values: Values) -> Values:
        """The `values` of rank 0, of one shape in all ranks: the same work need not give the same bits everywhere."""
        if self.processes.world_size == 1:
            return values
        if isinstance(values, np.ndarray):
            return self.broadcast(self.to_device(values)).cpu().numpy()
        return self.processes.all_reduce(values.clone() if self.processes.is_main else torch.zeros_like(values))

    def micro_batches(self, whole: slice | int, most: int | None = None) -> Iterator[slice]:
        """Slices of at most a micro-batch, or `most`, as even as can be, that cover the `whole` or 0 … whole."""
        whole = whole if isinstance(whole, slice) else slice(0, whole)
        most = self.micro_batch if most is None else most
        yield from even_slices(whole, most or max(1, whole.stop - whole.start))

    def retry_on_oom(self, images: int, work: Callable[[], Result], undo: Callable[[], None]) -> Result:
        """The result of `work`; when memory runs out, it is undone and repeated with half the images at a time.

        `images` is the most that `work` passes through a network at a time while `micro_batch` has no limit. Raises
        WorkError where one image at a time is still too much.
        """
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.processes.world_size > 1:  # the others wait for this step and cannot repeat theirs
                    raise WorkError(
                        f"out of memory in one of {self.processes.world_size} ranks: {first_line(error)}",
                        "Use more ranks with fewer on a device, or lower --ipc, --factor or --batch-real.",
                    ) from error
                if (self.micro_batch or images) <= 1:
                    raise WorkError(
                        f"out of memory even with one image at a time on the {self.device.type}: {first_line(error)}",
                        "Lower --ipc, --factor or the network's width, or choose another --device or --residency.",
                    ) from error
            # Outside of the handler, whose traceback would keep alive the tensors that took the memory.
            self.micro_batch = (self.micro_batch or images) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            undo()

    def facts(self) -> dict[str, Any]:
        """What the arithmetic depends on beside the options of a run, as files record it under `environment`.

        Two runs of the same options whose facts are equal give the same bits on a CPU.
        """
        return {
            "device": self.device_name(),
            "precision": self.precision,
            "compile": self.compiled,
            "threads": torch.get_num_threads(),
            "processes": self.processes.world_size,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "torch": str(torch.__version__),
            "fairdd": __version__,
        }

    def device_name(self) -> str:
        """The model of the GPU or the CPU, such as "NVIDIA H100 80GB HBM3" or "AMD EPYC 9R45"."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return cpu_model()

    def describe(self) -> str:
        """The hardware, for a log line."""
        if self.device.type == "cuda":
            return f"{self.device_name()} ({self.device}), {self.precision}"
        return f"{self.device_name()}, {torch.get_num_threads()} threads, {self.precision}"

    def peak_memory(self) -> int:
        """The most memory, in bytes, held so far: the device's where it has its own, else the process's."""
        return memory.peak_memory(self.device)


def open_runtime(
    device: str = "auto", precision: str = "fp32", deterministic: bool = False, compiles: str = "auto"
) -> Runtime:
    """The runtime for `device` (auto, cpu, cuda, cuda:N); raises UsageError where it is not there.

    `deterministic` confines torch to algorithms that give the same bits every time, for the whole process. On a
    CPU they do so anyway, with the same number of threads.
    """
    if compiles not in COMPILES:
        raise unknown("--compile", compiles, COMPILES)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
        raise UsageError(f"unknown device '{device}' (known: auto, cpu, cuda, cuda:N)")
    check_precision(precision, torch.device(kind))
    if deterministic:
        use_deterministic_algorithms()
    if kind == "cpu":
        memory.keep_freed_memory()
        processes = init_process_group("gloo")
        return Runtime(torch.device("cpu"), precision, memory.MICRO_BATCH, compiles, processes=processes)
    allow_tf32(precision != "fp32")
    available = torch.cuda.device_count()
    index = index or (os.environ["LOCAL_RANK"] if launched_by_torchrun() else "0")
    if int(index) >= available:
        raise UsageError(f"device 'cuda:{index}' is not there: {available} CUDA devices found; use --device cpu")
    chosen = torch.device("cuda", int(index))
    torch.cuda.set_device(chosen)
    return Runtime(chosen, precision, compiles=compiles, processes=init_process_group("nccl"))
