"""When parts of a network are compiled, where the kernels are kept, and whether that is possible here."""

import logging
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from fairdd_cli.artifacts import cache_folder, private_folder
from fairdd_cli.errors import UsageError

KERNEL_CACHE = "TORCHINDUCTOR_CACHE_DIR"
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


def set_kernel_cache() -> None:
    """Makes torch keep compiled kernels in the user's own cache, or where TORCHINDUCTOR_CACHE_DIR says.

    torch's default is a folder with a predictable name in the shared temporary directory, whose code it loads whoever
    made it. Raises UsageError where the user's choice is a folder that others can write to or replace.
    """
    chosen = os.environ.get(KERNEL_CACHE)
    if not chosen:
        os.environ[KERNEL_CACHE] = str(cache_folder("kernels"))
    elif folder := private_folder(Path(chosen)):
        os.environ[KERNEL_CACHE] = str(folder)
    else:
        raise UsageError(
            f"{KERNEL_CACHE}: '{chosen}' is not a folder that you alone can write to, or lies in one in which others "
            "could replace it, and code is loaded from there; choose another one or unset it"
        )


@cache
def compiler_works(device: torch.device) -> bool:
    """Whether torch can compile for the `device` here; raises UsageError for an unsafe TORCHINDUCTOR_CACHE_DIR."""
    set_kernel_cache()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's own, about torch's own parts
            return bool(torch.compile(torch.square)(torch.ones(2, device=device)).sum() == 2)
    except Exception:  # whatever the compiler raises, the plain layers do the same
        return False
