"""Random streams: every draw has a key, so that a run is repeatable wherever it is continued."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Streams:
    """Randomness keyed by (seed, name, counters): every draw has a generator of its own and no state is carried.

    A run that continues at iteration 500 draws what it would have drawn had it not stopped.
    """

    seed: int

    def _key(self, name: str, counters: tuple[int, ...]) -> int:
        text = "/".join([str(self.seed), name, *map(str, counters)])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    def child(self, name: str) -> "Streams":
        """Streams of a part of the run called `name`, whose draws are those of no other part."""
        return Streams(self._key(name, ()))

    def numpy(self, name: str, *counters: int) -> np.random.Generator:
        """The NumPy generator of the stream `name` at `counters`."""
        return np.random.default_rng(self._key(name, counters))

    def torch(self, name: str, *counters: int) -> "torch.Generator":
        """The torch generator (on the CPU, so that every device sees the same draws) of the stream at `counters`."""
        import torch  # noqa: PLC0415  # what draws with NumPy alone starts without it

        return torch.Generator().manual_seed(self._key(name, counters) >> 1)

    @contextmanager
    def fork_rng(self, name: str, *counters: int) -> Iterator[None]:
        """A block in which torch's own initialisers draw from this stream; the global state is restored after it."""
        import torch  # noqa: PLC0415

        with torch.random.fork_rng(devices=[]):
            # Only the generator of the CPU is seeded, because only its state is restored.
            torch.default_generator.manual_seed(self._key(name, counters) >> 1)
            yield
