"""The machine under the work: device, precision, keyed randomness, residency of the data, progress, memory.

This is the only module that names a kind of device.
"""

import ctypes
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from fairdd_cli.artifacts import Images
from fairdd_cli.errors import UsageError, WorkError
from fairdd_cli.runtime.processes import Processes, join, started_together

Result = TypeVar("Result")
Values = TypeVar("Values", np.ndarray, torch.Tensor)
PRECISIONS = ("fp32", "tf32", "bf16")
RESIDENCIES = ("auto", "device", "memory", "disk")
COMPILES = ("auto", "on", "off")
# Images that a CPU passes through a network at a time: so many, or fewer of large ones, so that a layer's output of 128
# maps takes 16 MB, which the C library keeps; below the least the calls cost more than that brings.
MICRO_BATCH, MICRO_PIXELS, LEAST_BATCH = 32, 32 * 32 * 32, 4
# Where nothing is kept of the images, a network that divides them by itself gets more: so many micro-batches, of which
# its layers put out so many values at a time. Measured: a forward pass of ConvNet takes 0.9 of the time.
FORWARD_BATCHES, CACHED = 4, 2**20
FORWARD_PIXELS = 2**21  # of the images that a GPU passes through a network at a time where nothing is kept of them
# Values (of an image, forward and backward) through kernels from which compiling them pays, for each thread: they save
# 3 to 4 ns each on one thread, and the compiler takes 17 s the first time and 3 s when it has seen them before.
PAYS = 6e9
# glibc's names for its options. By default it gives large blocks back to the system as soon as they are free and gets
# them anew, zeroed page by page, which costs a network on a CPU half its time.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_FREE, KEPT_BLOCK = 2**30, 2**25  # bytes: of free memory, and of a block (the most that glibc takes)
# What torch and the libraries under it say where they raise a plain RuntimeError.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "STATUS_ALLOC_FAILED",
    "unable to find an engine",  # cuDNN, which found no memory to work in
)


class Progress(Protocol):
    """Hears how far a piece of work has come. Work is counted in image passes: one image forward and backward."""

    def start(self, what: str, total: float) -> None:
        """A piece of work of `total` image passes begins."""
        ...

    def advance(self, amount: float, loss: float | None = None) -> None:
        """`amount` image passes are done; the `loss` is the latest."""
        ...


class Silent:
    """Progress that nobody watches."""

    def start(self, what: str, total: float) -> None:
        """Says nothing."""

    def advance(self, amount: float, loss: float | None = None) -> None:
        """Says nothing."""


@runtime_checkable
class Fusible(Protocol):
    """A part of a network that may be computed by a compiled kernel."""

    fused: bool  # whether it is

    @property
    def fusible(self) -> bool:
        """Whether there is a kernel for it."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A part of a network that can take its images a few at a time where nothing is kept of them."""

    most_values: int  # that a layer of it may put out at a time; 0: as many as there are


@dataclass
class Runtime:
    """Where and how the arithmetic runs.

    `micro_batch` is the number of images that pass through a network at a time where nothing needs more: on a
    CPU few enough for the activations to stay in the cache, on a GPU, where launches cost, no limit (0). It is
    halved when memory runs out; no result depends on it but for the rounding of sums. `compiles` says when the
    networks' memory-bound parts are compiled, and `compiled`, set by `decide_compiling`, whether they are.
    """

    device: torch.device
    precision: str = "fp32"
    micro_batch: int = 0
    compiles: str = "off"
    compiled: bool = False
    processes: Processes = field(default_factory=Processes)
    forward: int = FORWARD_PIXELS // 32**2  # images at a time where nothing limits them and nothing is kept of them

    def alone(self) -> "Runtime":
        """The same for work that each process does by itself."""
        return replace(self, processes=Processes())

    @property
    def whole(self) -> bool:
        """Whether all classes go through the network together."""
        return self.micro_batch == 0

    def forward_batch(self, network: torch.nn.Module) -> int:
        """Images that pass through `network` at a time where nothing is kept of them, 0 for any number."""
        divides = any(isinstance(part, Divisible) and part.most_values for part in network.modules())
        return FORWARD_BATCHES * self.micro_batch if divides else self.micro_batch

    def at_once(self, network: torch.nn.Module) -> int:
        """The same for all images of a data set, where there is always a limit."""
        return self.forward_batch(network) or self.forward

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """A block that computes in the chosen precision; matched signals are accumulated in fp32 regardless."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def decide_compiling(self, values: float) -> str:
        """Whether this run compiles, `values` being those of all images through `Fusible` parts; why, for the log.

        It depends on nothing but the run's size and the number of threads, so that a resumed run decides alike.
        Raises UsageError where it must but cannot.
        """
        pays = values >= PAYS * torch.get_num_threads() and self.device.type == "cpu"
        if self.compiles == "off" or not values or (self.compiles == "auto" and not pays):
            self.compiled = False
            return f"not compiled ({values:.1e} values to gain from)"
        self.compiled = compiler_works(self.device)
        if not self.compiled and self.compiles == "on":
            raise UsageError("--compile on needs a C++ compiler that torch can use (g++ or clang++); none works here")
        return f"compiled ({values:.1e} values)" if self.compiled else "not compiled: no C++ compiler works here"

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """`module` on the device, in the memory layout that its convolutions are fastest in, compiled if decided."""
        for part in module.modules():
            if isinstance(part, Fusible) and self.compiled:
                part.fused = part.fusible
            if isinstance(part, Divisible) and self.device.type == "cpu":
                part.most_values = CACHED
        placed = module.to(self.device, non_blocking=True, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed  # type: ignore[no-any-return]

    def expect(self, height: int, width: int) -> None:
        """Sets how many images of this size pass at a time: `micro_batch` is lowered where they are large for it."""
        self.forward = max(1, FORWARD_PIXELS // (height * width))
        if not self.whole:
            self.micro_batch = min(self.micro_batch, max(LEAST_BATCH, MICRO_PIXELS // (height * width)))

    def to_device(self, array: np.ndarray | torch.Tensor) -> torch.Tensor:
        """`array` as a tensor on the device."""
        tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
        return tensor.to(self.device, non_blocking=True)

    def agreed(self, values: Values) -> Values:
        """The first process's `values`, of one shape in all: the same work need not end alike everywhere to the bit."""
        if self.processes.count == 1:
            return values
        if isinstance(values, np.ndarray):
            return self.agreed(self.to_device(values)).cpu().numpy()
        return self.processes.sum(values.clone() if self.processes.first else torch.zeros_like(values))

    def pieces(self, whole: slice | int, most: int | None = None) -> Iterator[slice]:
        """Slices of at most a micro-batch, or `most`, as even as can be, that cover the `whole` or 0 … whole."""
        whole = whole if isinstance(whole, slice) else slice(0, whole)
        most = self.micro_batch if most is None else most
        yield from even(whole, most or max(1, whole.stop - whole.start))

    def within_memory(self, images: int, work: Callable[[], Result], undo: Callable[[], None]) -> Result:
        """What `work` returns; while memory runs out, it is undone and repeated with half the images at a time.

        `images` is the most that it passes through a network at a time while that is not limited. Raises WorkError
        where one image at a time is still too much.
        """
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.processes.count > 1:  # the others wait for this step and cannot repeat theirs
                    raise WorkError(
                        f"memory ran out in one of {self.processes.count} processes: {first_line(error)}\n"
                        "Use more processes with fewer on a device, or lower --ipc, --factor or --batch-real."
                    ) from error
                if (self.micro_batch or images) <= 1:
                    raise WorkError(
                        "memory ran out even with one image at a time on the "
                        f"{self.device.type}: {first_line(error)}\n"
                        "Lower --ipc, --factor or the network's width, or choose another --device or --residency."
                    ) from error
            # Outside of the handler, whose traceback would keep alive the tensors that took the memory.
            self.micro_batch = (self.micro_batch or images) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            undo()

    def describe(self) -> str:
        """The hardware, for a log line."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} ({self.device}), {self.precision}"
        return f"CPU, {torch.get_num_threads()} threads, {self.precision}"

    def peak_memory(self) -> int:
        """The most memory, in bytes, held so far: the device's where it has its own, else the process's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def even(whole: slice, most: int) -> Iterator[slice]:
    """Slices of at most `most`, as even as can be, that cover the `whole`."""
    first, count = whole.start, whole.stop - whole.start
    parts = -(-count // most)
    for part in range(parts):
        yield slice(first + part * count // parts, first + (part + 1) * count // parts)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the device's or the host's memory is used up."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, cut to 200 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@cache
def compiler_works(device: torch.device) -> bool:
    """Whether torch can compile for the `device` here."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of the GPU that is not there
    try:
        with warnings.catch_warnings(action="ignore"):  # of what torch itself makes of its own parts
            return bool(torch.compile(torch.square)(torch.ones(2, device=device)).sum() == 2)
    except Exception:  # whatever the compiler raises, there is a way without it
        return False


def keep_freed_memory() -> None:
    """Makes the C library keep freed memory for the next use, where it is glibc, for the whole process."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune is not None:
        tune(MMAP_THRESHOLD, KEPT_BLOCK)
        tune(TRIM_THRESHOLD, KEPT_FREE)


def open_runtime(
    device: str = "auto", precision: str = "fp32", deterministic: bool = False, compiles: str = "auto"
) -> Runtime:
    """The runtime for `device` (auto, cpu, cuda, cuda:N); raises UsageError where it is not there.

    `deterministic` confines torch to algorithms that give the same bits every time, for the whole process. On a
    CPU they do so anyway, with the same number of threads.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}' (known: {', '.join(PRECISIONS)})")
    if compiles not in COMPILES:
        raise UsageError(f"unknown --compile '{compiles}' (known: {', '.join(COMPILES)})")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
        raise UsageError(f"unknown device '{device}' (known: auto, cpu, cuda, cuda:N)")
    if kind == "cpu":
        if precision == "tf32":
            raise UsageError("--precision tf32 needs a CUDA device; on a CPU use fp32 or bf16")
        keep_freed_memory()
        return Runtime(torch.device("cpu"), precision, MICRO_BATCH, compiles, processes=join("gloo"))
    # For the whole process: backward passes run outside of any block, and torch allows TF32 in convolutions by itself.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    found = torch.cuda.device_count()
    index = index or (os.environ["LOCAL_RANK"] if started_together() else "0")
    if int(index) >= found:
        raise UsageError(f"device 'cuda:{index}' is not there: {found} CUDA devices found; use --device cpu")
    chosen = torch.device("cuda", int(index))
    torch.cuda.set_device(chosen)
    return Runtime(chosen, precision, compiles=compiles, processes=join("nccl"))


class ImageStore:
    """The uint8 images of a split, kept on the device, in memory or on disk, and normalised as they are taken."""

    def __init__(
        self,
        images: Images,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        runtime: Runtime,
        residency: str = "auto",
    ) -> None:
        if residency not in RESIDENCIES:
            raise UsageError(f"unknown residency '{residency}' (known: {', '.join(RESIDENCIES)})")
        self.shape = images.shape
        self._runtime = runtime
        self.residency = _choose_residency(int(np.prod(images.shape)), runtime) if residency == "auto" else residency
        self._images: Images | torch.Tensor = images
        if self.residency == "device":
            self._images = runtime.to_device(torch.from_numpy(images.all()))
        elif self.residency == "memory":
            self._images = torch.from_numpy(images.all())
        # (x / 255 - mean) / std in one multiplication and one addition
        scale = 1 / (255 * np.array(std, np.float64))
        shift = -np.array(mean, np.float64) / np.array(std, np.float64)
        self._scale = runtime.to_device(torch.tensor(scale, dtype=torch.float32)[:, None, None])
        self.stretch = (255 * self._scale).square()  # [C, 1, 1], of squared distances between pixels in [0, 1]
        self._shift = runtime.to_device(torch.tensor(shift, dtype=torch.float32)[:, None, None])
        self.low, self.high = self._shift, 255 * self._scale + self._shift  # [C, 1, 1]: black and white, normalised

    def take(self, indices: np.ndarray) -> torch.Tensor:
        """The images at `indices`, float32 [len(indices), C, H, W] in normalised units, on the device."""
        if isinstance(self._images, torch.Tensor):
            where = torch.from_numpy(indices)
            raw = self._images[where.to(self._images.device, non_blocking=True)]
        else:
            raw = torch.from_numpy(self._images.take(indices))
        images = self._runtime.to_device(raw).to(torch.float32) * self._scale + self._shift
        return images.to(memory_format=torch.channels_last)


def _choose_residency(size: int, runtime: Runtime) -> str:
    """Where `size` bytes of images fit with room to spare: on the device, in memory, or only on disk."""
    if runtime.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(runtime.device)
        if size < free // 2:
            return "device"
    return "memory" if size < _available_memory() // 3 else "disk"


def _available_memory() -> int:
    """Bytes of memory that are free on the host, as the kernel estimates them; half of all where it doesn't."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123  # a kernel table, not a user's file
            table = dict(line.split(":", 1) for line in lines)
        return int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Stopwatch:
    """Seconds since it was made, plus those of an earlier part of the same run."""

    def __init__(self, before: float = 0.0) -> None:
        self._start = time.perf_counter() - before

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
