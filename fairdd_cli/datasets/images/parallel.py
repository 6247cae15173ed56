"""Arrays filled by several processes, in order, with a bounded number of them under way."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from ctypes import Array, c_ubyte
from typing import TypeVar

import numpy as np

from fairdd_cli.errors import WorkError
from fairdd_cli.system import exit_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 3  # arrays under way for each process: enough to keep it busy, few enough to keep memory flat

# Once a block of this size was freed, the GNU allocator keeps what is freed after it, up to twice as much, instead of
# giving the pages of every decoded image back to the system, which costs a worker a fifth of its time.
KEPT = 2**25 - 2**16  # bytes


def ordered_fill(
    fill: Callable[[Task, np.ndarray], Result], tasks: Iterable[Task], shape: tuple[int, ...], workers: int
) -> Iterator[tuple[np.ndarray, Result]]:
    """(array, `fill(task, array)`) for each of the `tasks`, in their order; the array is uint8 of the `shape`.

    It is filled by one of `workers` processes (by this one where that is 1 or less) and valid until the next is
    asked for. Processes are spawned, not forked: torch holds threads and locks that a fork would copy half-way.
    Their arrays lie in memory shared with this process, since pipes would cost a tenth of the decoding. Raises
    WorkError where a process dies, or where the system has no memory to share.
    """
    if workers <= 1:
        array = np.empty(shape, np.uint8)
        for task in tasks:
            yield array, fill(task, array)
        return
    context = multiprocessing.get_context("spawn")
    places = (AHEAD * workers, *shape)
    try:
        shared = context.RawArray(c_ubyte, int(np.prod(places)))
        pool = ProcessPoolExecutor(workers, context, _start, (shared, places, context.Lock()))
    except OSError as error:
        raise WorkError(
            f"{workers} decoding processes need shared memory and a temporary folder: {error}",
            "Make /dev/shm and TMPDIR writable with room in them, or decode in one process with --workers 1.",
        ) from error
    arrays = _as_arrays(shared, places)
    pending: deque[tuple[int, Future[Result]]] = deque()
    try:
        for number, task in enumerate(tasks):
            if len(pending) == len(arrays):
                place, future = pending.popleft()
                yield arrays[place], future.result()
            place = number % len(arrays)  # the one that was just given out is free again
            pending.append((place, pool.submit(_fill_place, fill, task, place)))
        while pending:
            place, future = pending.popleft()
            yield arrays[place], future.result()
    except BrokenProcessPool as error:
        raise WorkError(
            f"one of {workers} decoding processes died, most likely for want of memory; use fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def exclusive() -> AbstractContextManager[object]:
    """A block that only one of the processes is in at a time."""
    return _exclusive[0]


def _as_arrays(shared: "Array[c_ubyte]", shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(memoryview(shared), np.uint8).reshape(shape)


_exclusive: list[AbstractContextManager[object]] = [nullcontext()]  # in a worker: a lock that all share
_arrays: list[np.ndarray] = []  # in a worker: where its results go


def _start(shared: "Array[c_ubyte]", shape: tuple[int, ...], lock: AbstractContextManager[object]) -> None:
    """Prepares a worker; an interrupt is for the parent, which ends its workers."""
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    np.empty(KEPT, np.uint8)  # made and freed at once
    _exclusive[0] = lock
    _arrays.extend(_as_arrays(shared, shape))


def _fill_place(fill: Callable[[Task, np.ndarray], Result], task: Task, place: int) -> Result:
    return fill(task, _arrays[place])
