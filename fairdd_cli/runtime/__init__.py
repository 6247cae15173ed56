"""The machine under a run: device, precision, compilation, random streams, memory, processes and checkpoints.

Everything else computes through a `Runtime` and draws through `Streams`. No other room names a kind of device, seeds a
generator or speaks to another process. A name is imported when it is first used: who draws with NumPy alone starts
without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairdd_cli.runtime.checkpoints import Checkpoints as Checkpoints
    from fairdd_cli.runtime.checkpoints import State as State
    from fairdd_cli.runtime.compilation import COMPILE_THRESHOLD as COMPILE_THRESHOLD
    from fairdd_cli.runtime.compilation import COMPILES as COMPILES
    from fairdd_cli.runtime.compilation import compiler_works as compiler_works
    from fairdd_cli.runtime.device import Runtime as Runtime
    from fairdd_cli.runtime.device import open_runtime as open_runtime
    from fairdd_cli.runtime.images import RESIDENCIES as RESIDENCIES
    from fairdd_cli.runtime.images import ImageStore as ImageStore
    from fairdd_cli.runtime.memory import even_slices as even_slices
    from fairdd_cli.runtime.precision import PRECISIONS as PRECISIONS
    from fairdd_cli.runtime.processes import Processes as Processes
    from fairdd_cli.runtime.processes import all_reduce_gradients as all_reduce_gradients
    from fairdd_cli.runtime.progress import NullProgress as NullProgress
    from fairdd_cli.runtime.progress import Progress as Progress
    from fairdd_cli.runtime.progress import Stopwatch as Stopwatch
    from fairdd_cli.runtime.progress import show_progress as show_progress
    from fairdd_cli.runtime.streams import Streams as Streams

MODULES = {
    "checkpoints": ("Checkpoints", "State"),
    "compilation": ("COMPILES", "COMPILE_THRESHOLD", "compiler_works"),
    "device": ("Runtime", "open_runtime"),
    "images": ("RESIDENCIES", "ImageStore"),
    "memory": ("even_slices",),
    "precision": ("PRECISIONS",),
    "processes": ("Processes", "all_reduce_gradients"),
    "progress": ("NullProgress", "Progress", "Stopwatch", "show_progress"),
    "streams": ("Streams",),
}


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
