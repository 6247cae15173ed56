"""When parts of a network are compiled, and whether that is possible here."""

import logging
import warnings
from functools import cache
from typing import Protocol, runtime_checkable

import torch

COMPILES = ("auto", "on", "off")
# Compiling pays from this number of values (of all images, forward and backward) through kernels on, for each thread:
# kernels save 3 to 4 ns a value on one thread, and the compiler takes 17 s the first time and 3 s with a warm cache.
COMPILE_THRESHOLD = 6e9


@runtime_checkable
class Fusible(Protocol):
    """A part of a network that may be computed by a compiled kernel."""

    fused: bool  # whether it is

    @property
    def fusible(self) -> bool:
        """Whether there is a kernel for it."""
        ...


@cache
def compiler_works(device: torch.device) -> bool:
    """Whether torch can compile for the `device` here."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's own, about torch's own parts
            return bool(torch.compile(torch.square)(torch.ones(2, device=device)).sum() == 2)
    except Exception:  # whatever the compiler raises, the plain layers do the same
        return False
