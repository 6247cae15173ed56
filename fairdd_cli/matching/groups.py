"""Other groups than those a data set was labelled with: found by clustering, or corrupted for a study of robustness."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fairdd_cli.artifacts import Images, Split
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import Embed
from fairdd_cli.matching.clusters import kmeans, squared_distances
from fairdd_cli.runtime import Streams

CLUSTERS = 10  # of a class, where `--groups pseudo` doesn't say
FITTED = 5000  # images of a class that k-means is fitted to, and that are embedded at a time


@dataclass(frozen=True)
class ReorderedImages:
    """Other `images`, numbered by `order`; they stay where they are."""

    images: Images
    order: np.ndarray  # int64 [N]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.images.shape

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`."""
        return self.images.take(self.order[indices])

    def all(self) -> np.ndarray:
        """Every image."""
        return np.asarray(self.images.all()[self.order])


def parse_groups(text: str) -> int:
    """The clusters to find in each class: K for `pseudo:K`, 0 for `labels`; raises UsageError for anything else."""
    kind, _, number = text.partition(":")
    if text == "labels":
        return 0
    if kind != "pseudo" or (number and not (number.isdecimal() and int(number) > 1)):
        raise UsageError(f"--groups {text}: expected labels, pseudo or pseudo:K with K clusters a class, at least 2")
    return int(number or CLUSTERS)


def group_names(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """What the groups of `--groups` `text` are called in data whose own groups have `names`."""
    clusters = parse_groups(text)
    return tuple(f"cluster {number}" for number in range(clusters)) if clusters else tuple(names)


def with_groups(split: Split, protected: np.ndarray, groups: int) -> Split:
    """`split` with other protected values int64 [N] below `groups`, sorted by the new cells."""
    order = np.lexsort((protected, split.labels))
    images = ReorderedImages(split.images, order)
    return Split.sorted_by_cell(images, split.labels[order], protected[order], len(split.count), groups)


def cluster_groups(
    split: Split,
    clusters: int,
    embed: Embed,
    streams: Streams,
    broadcast: Callable[[np.ndarray], np.ndarray] = lambda protected: protected,
) -> Split:
    """`split` grouped by k-means over the embedded images of each class; no protected value is looked at.

    `broadcast` gives every rank the values int64 [N] of one of them.

    Cluster numbers of different classes have nothing to do with each other; the strategies work class by class.
    """
    protected = np.zeros(len(split), np.int64)
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        generator = streams.numpy("groups/pseudo", int(label))
        sample = embed(generator.permutation(members)[:FITTED])
        centres, _ = kmeans(sample, min(clusters, len(sample)), generator)
        for start in range(0, len(members), FITTED):
            part = members[start : start + FITTED]
            protected[part] = squared_distances(embed(part), centres).argmin(dim=1).cpu().numpy()
    return with_groups(split, broadcast(protected), clusters)


def corrupt_groups(split: Split, share: float, streams: Streams) -> Split:
    """`split` with the protected values of a `share` of its images, drawn at random, replaced by uniform draws."""
    generator, groups = streams.numpy("groups/noise"), split.count.shape[1]
    protected = split.protected.copy()
    changed = generator.permutation(len(split))[: round(share * len(split))]
    protected[changed] = generator.integers(0, groups, len(changed))
    return with_groups(split, protected, groups)
