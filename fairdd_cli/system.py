"""The version, and what concerns a process before torch is loaded: cores, threads, torchrun, its end with its parent.

Imports no torch.
"""

import math
import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

__version__ = "0.2.0"  # pyproject.toml reads it here

# OpenMP's threads wait for each other by spinning. On a quiet machine that is quickest. When another program wants the
# cores, a thread spins away the time slice that the one it waits for needs. A short spin before sleeping serves both
# (measured: recipes/BENCHMARKS.md). A user's own choice is any of WAITING.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPIN_COUNT = "30000"  # of GNU's OpenMP, which torch comes with on Linux; its default is 300,000
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what it sets in the environment
CGROUPS = Path("/sys/fs/cgroup")


def configure_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets in `environment` how OpenMP's threads wait, and their number where a CPU quota allows fewer than the cores.

    What the user has set stays; what is empty, which OpenMP would complain of, counts as not set. Takes effect only
    before torch is imported.
    """
    for name in (*WAITING, "OMP_NUM_THREADS"):
        if environment.get(name) == "":
            del environment[name]
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT
    cores = usable_cores()
    if "OMP_NUM_THREADS" not in environment and cores < _cores():
        environment["OMP_NUM_THREADS"] = str(cores)


def usable_cores() -> int:
    """How many cores this process may use, by its affinity and by the CPU quota of its cgroup; at least 1."""
    return max(1, min(_cores(), math.ceil(min(cpu_quota(), _cores()))))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> float:
    """The cores that the cgroup of this process and those above it allow it on average; infinite without a limit.

    `root` is where cgroups are mounted, of version 2 (`cpu.max`) or 1 (`cpu/cpu.cfs_quota_us`); `membership` is the
    kernel's list of the process's cgroups.
    """
    quotas = [math.inf]
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        folder = top / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(top):
                older = " ".join(_read(each / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
                quotas.append(_as_cores(_read(each / "cpu.max") or older))
    return min(quotas)


def _as_cores(quota: str) -> float:
    """The cores of a quota "MICROSECONDS PERIOD"; infinite for "max …", "-1 …" and anything else."""
    words = quota.split()
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return math.inf
    return int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):  # another system, or another layout
        return ""


def cpu_model() -> str:
    """The name of the CPU, as the kernel gives it; else its architecture."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "CPU"


def launched_by_torchrun() -> bool:
    """Whether torchrun started this process together with others."""
    return all(os.environ.get(name) for name in TORCHRUN) and os.environ["WORLD_SIZE"] not in ("0", "1")


def exit_with_parent() -> None:
    """Ends this worker process of multiprocessing when its parent dies, however that happens.

    Otherwise a worker would wait for its next task for ever: it holds the other end of its own queue open.
    """
    import multiprocessing.connection  # noqa: PLC0415  # help, which starts no worker, answers without it
    import threading  # noqa: PLC0415

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
