"""How the synthetic images of each class cover the real images of its groups: features projected onto a plane."""

from dataclasses import dataclass

import numpy as np

from fairdd_cli.artifacts import BiasedDataset, SyntheticSet
from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.loading import training_images
from fairdd_cli.matching.sampling import balanced
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import ImageStore, Progress, Runtime, Streams
from fairdd_cli.training import FeatureExtractor, TensorImages, embed

SHOWN = 400  # real images of a class, at most about
PANELS = 20  # classes that one picture has room for
FEWEST = 3  # real images of a class, below which they have no plane


@dataclass(frozen=True)
class ClassProjection:
    """Projected features of one class: `real` float64 [N, 2], of `groups` int64 [N], and `synthetic` float64 [M, 2].

    `explained` is the share of the variance of the real images' embeddings that the two directions explain.
    """

    name: str
    real: np.ndarray
    groups: np.ndarray
    synthetic: np.ndarray
    explained: float


def find_class(name: str, class_names: tuple[str, ...]) -> int:
    """The label of the class called `name`, or numbered so; raises UsageError where there is none."""
    if name in class_names:
        return class_names.index(name)
    if name.isdecimal() and int(name) < len(class_names):
        return int(name)
    raise unknown("class", name, class_names)


def class_projections(
    synthetic: SyntheticSet, dataset: BiasedDataset, labels: list[int], runtime: Runtime, progress: Progress
) -> list[ClassProjection]:
    """The projection of each class in `labels`: principal components of embeddings, found from the real images alone.

    The network is of the architecture that the set was distilled with, trained on the data set for one epoch, by
    which it learns the classes' bias and so separates the groups (see `FeatureExtractor`). Real training
    images are drawn evenly over the groups, whatever their share, so that small groups are seen.
    """
    streams = Streams(synthetic.seed)
    store = ImageStore(dataset.train.images, dataset.mean, dataset.std, runtime)
    spec = parse_network(synthetic.network)
    description = FeatureExtractor(runtime, streams, dataset.train, store, spec, dataset.classes, progress)
    images, owners, _ = training_images(synthetic)
    synthetic_images = TensorImages(runtime.to_device(images))
    projections = []
    for label in labels:
        if (count := int(dataset.train.count[label].sum())) < FEWEST:
            raise UsageError(
                f"class '{dataset.class_names[label]}' of '{dataset.path}' has {count} training images, too few for a "
                f"picture of at least {FEWEST}; choose another with --class"
            )
        # A group with fewer images than its share gives each of them once.
        sample = np.unique(balanced(dataset.train, label, SHOWN, streams.numpy("coverage", label)))
        synthetic_features = (
            embed(description.network, synthetic_images, np.flatnonzero(owners == label), runtime).cpu().numpy()
        )
        real, projected, explained = project(description(sample).cpu().numpy(), synthetic_features)
        groups = dataset.train.protected[sample]
        projections.append(ClassProjection(dataset.class_names[label], real, groups, projected, explained))
    return projections


def project(real: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """`real` [N, D] and `others` [M, D] on the first two principal components of `real`, and their share of it.

    The sign of a component is arbitrary; it is chosen so that its largest entry is positive.
    """
    centre = real.mean(axis=0, dtype=np.float64)
    _, scale, directions = np.linalg.svd(real - centre, full_matrices=False)
    axes = directions[:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    explained = float((scale[:2] ** 2).sum() / max((scale**2).sum(), np.finfo(float).tiny))
    return (real - centre) @ axes.T, (others - centre) @ axes.T, explained
