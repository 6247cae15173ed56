"""Where the synthetic images start: real images, evenly spread or representative ones, or noise."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.decodings import Codec
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import Embed
from fairdd_cli.matching.sampling import balanced, proportional
from fairdd_cli.matching.selection import Select, herding, k_center, nearest_to_centres, representatives
from fairdd_cli.runtime import ImageStore, Streams


def _real(split: Split, label: int, count: int, generator: np.random.Generator) -> np.ndarray:
    available = int(split.count[label].sum())
    if count > available:
        raise UsageError(f"--ipc asks for {count} images of class {label}, which has {available}; lower it")
    return generator.permutation(proportional(split, label, count, generator))


def _balanced(split: Split, label: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """As even a spread over the cells as `count` allows; which cells get one more is drawn."""
    groups = int((split.count[label] > 0).sum())
    drawn = balanced(split, label, groups * -(-count // groups), generator)  # a whole round more than needed
    rounds = generator.permuted(drawn.reshape(groups, -1), axis=1).T  # a row holds an image of every cell
    last = generator.permutation(rounds[-1])[: count - rounds[:-1].size]
    return np.concatenate([rounds[:-1].ravel(), last])


Choose = Callable[[Split, int, int, np.random.Generator], np.ndarray]
# Initialisations that choose images by their embeddings.
SELECTIONS: Mapping[str, Select] = {"kmeans": nearest_to_centres, "herding": herding, "kcenter": k_center}
INITS: Mapping[str, Choose | None] = {
    "real": _real,
    "balanced": _balanced,
    **dict.fromkeys(SELECTIONS, _real),
    "noise": None,
}


def initialise(
    init: str,
    split: Split,
    store: ImageStore,
    classes: int,
    stored_per_class: int,
    codec: Codec,
    streams: Streams,
    embed: Embed,
    by_cell: bool,
) -> tuple[Tensor, Tensor]:
    """The stored images [classes * n, …] to start from: real, real and even over the cells, or noise N(0, 1).

    `kmeans` takes the real ones nearest to the centres of as many clusters of embedded images, `herding` those whose
    mean is nearest to that of all, `kcenter` those from which none is far: of each class, or `by_cell` of each cell,
    evenly. With a factor above 1 every tile is a real image of its own, made smaller. Also returns the group int64
    [training images] that each training image is of; noise is of the class's groups in turn.
    Raises UsageError for more images than a class has.
    """
    choose = INITS["balanced" if init in SELECTIONS and by_cell else init]
    tiles = stored_per_class * codec.factor**2
    if choose is None:
        present = [np.flatnonzero(split.count[label]) for label in range(classes)]
        in_turn = np.concatenate([np.resize(each, tiles) for each in present])
        noise = torch.randn(classes * stored_per_class, *codec.stored_shape, generator=streams.torch("init"))
        return noise, torch.from_numpy(in_turn)
    empty = [label for label in range(classes) if not split.count[label].any()]
    if empty:
        raise UsageError(f"class {empty[0]} has no training images to start from")
    indices = [choose(split, label, tiles, streams.numpy("init", label)) for label in range(classes)]
    if init in SELECTIONS:
        generators = [streams.numpy("init/clusters", label) for label in range(classes)]
        indices = [
            generator.permutation(representatives(split, of_class, by_cell, embed, generator, select=SELECTIONS[init]))
            for generator, of_class in zip(generators, indices, strict=True)
        ]
    chosen = np.concatenate(indices)
    groups = torch.from_numpy(split.protected[chosen])
    return codec.encode(store.take(chosen), groups), groups
