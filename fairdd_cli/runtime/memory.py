"""How many images pass through a network at a time, how much memory there is, and what happens when it runs out."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch

# Images that a CPU passes through a network at a time. Large images: fewer, so that a layer's output of 128 maps takes
# 16 MB, which the C library keeps. Below LEAST_BATCH the calls cost more than that brings.
MICRO_BATCH, MICRO_PIXELS, LEAST_BATCH = 32, 32 * 32 * 32, 4
# Without a backward pass, a network that divides its images itself gets FORWARD_BATCHES micro-batches, and its layers
# put out at most CACHED values at a time. Measured: a forward pass of ConvNet takes 0.9 of the time.
FORWARD_BATCHES, CACHED = 4, 2**20
FORWARD_PIXELS = 2**21  # pixels that a GPU passes through a network at a time without a backward pass
# glibc's numbers of its options. By default it returns large blocks to the system as soon as they are free and gets
# them anew, zeroed page by page. That costs a network on a CPU half its time.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_FREE, KEPT_BLOCK = 2**30, 2**25  # bytes: of free memory, and of a block (the most that glibc takes)
# What torch and the libraries under it say where they raise a plain RuntimeError.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "STATUS_ALLOC_FAILED",
    "unable to find an engine",  # cuDNN without memory for its workspace
)


@runtime_checkable
class Divisible(Protocol):
    """A part of a network that can take its images a few at a time where there is no backward pass."""

    most_values: int  # that a layer of it may put out at a time; 0: no limit


def even_slices(whole: slice, most: int) -> Iterator[slice]:
    """Slices of at most `most`, as even as can be, that cover the `whole`."""
    first, count = whole.start, whole.stop - whole.start
    parts = -(-count // most)
    for part in range(parts):
        yield slice(first + part * count // parts, first + (part + 1) * count // parts)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the device's or the host's memory is used up."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def keep_freed_memory() -> None:
    """Makes the C library keep freed memory for the next use, where it is glibc, for the whole process."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune is not None:
        tune(MMAP_THRESHOLD, KEPT_BLOCK)
        tune(TRIM_THRESHOLD, KEPT_FREE)


def peak_memory(device: torch.device) -> int:
    """The most memory, in bytes, held so far: the device's where it has its own, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory() -> int:
    """Bytes of memory that are free on the host, as the kernel estimates them; half of all where it doesn't."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123  # a kernel table, not a user's file
            table = dict(line.split(":", 1) for line in lines)
        return int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
