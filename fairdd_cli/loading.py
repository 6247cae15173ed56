"""A file's images as a Dataset of PyTorch, for any training loop, and as what `inspect --export` writes."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fairdd_cli.artifacts import BiasedDataset, Evaluation, Experts, Export, Split, SyntheticSet, read_any
from fairdd_cli.decodings import stored_codec
from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.runtime import ImageStore, Runtime
from fairdd_cli.training import TensorImages, TrainingImages

SPLITS = ("train", "val", "test")
Loadable = BiasedDataset | SyntheticSet


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images in normalised units with their labels; entry i is (float32 tensor [C, H, W], int).

    `classes` are the names of the labels, and `mean` and `std` (per channel, for values in [0, 1]) what the images
    were normalised by. A data set also has `protected` (int64 [N]), which indexes the names in `groups`; in a
    synthetic set whose images belong to no group both are empty. The images of a data set stay in their file.
    """

    def __init__(
        self,
        images: TrainingImages,
        labels: np.ndarray,
        classes: tuple[str, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        protected: np.ndarray | None = None,
        groups: tuple[str, ...] = (),
    ) -> None:
        self._images = images
        self.labels = torch.from_numpy(labels)
        self.classes, self.mean, self.std, self.groups = classes, mean, std, groups
        self.protected = torch.from_numpy(np.zeros(0, np.int64) if protected is None else protected)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image and the label at `index`; raises IndexError beyond the end, which ends a plain loop."""
        label = int(self.labels[index])
        return self._images.take(np.array([index % len(self)]))[0].contiguous(), label

    @property
    def images(self) -> Tensor:
        """All of them, float32 [N, C, H, W]: those of a data set take four times the room of its file."""
        return self._images.take(np.arange(len(self))).contiguous()


def load(source: str | Loadable, split: str = "train") -> LabelledImages:
    """The images of a synthetic set, or of a `split` of a data set, at a path or in memory; UsageError without any."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    artifact = read_any(source) if isinstance(source, str) else source
    if isinstance(artifact, Evaluation | Experts):
        raise UsageError(f"'{artifact.path}' holds no images; load a synthetic set or a data set")
    if isinstance(artifact, BiasedDataset):
        return _of_dataset(artifact, split)
    if split != "train":
        raise UsageError(
            f"{artifact.where} is a synthetic set and has no {split} split; its data set has: '{artifact.dataset}'"
        )
    images, labels, groups = training_images(artifact)
    names = artifact.protected_names if groups is not None else ()
    return LabelledImages(
        TensorImages(images), labels, artifact.class_names, artifact.mean, artifact.std, groups, names
    )


def _of_dataset(dataset: BiasedDataset, name: str) -> LabelledImages:
    split: Split | None = getattr(dataset, name)
    if split is None:
        raise UsageError(f"{dataset.where} has no {name} split")
    store = ImageStore(split.images, dataset.mean, dataset.std, Runtime(torch.device("cpu")), "disk")
    groups = dataset.protected_names
    return LabelledImages(store, split.labels, dataset.class_names, dataset.mean, dataset.std, split.protected, groups)


def training_images(synthetic: SyntheticSet) -> tuple[Tensor, np.ndarray, np.ndarray | None]:
    """What networks are trained on: the decoded images float32 [N, C, H, W], their labels and groups int64 [N].

    Bases that can be shown in every group are there in each of them. The groups are None where images stand for none.
    """
    codec = stored_codec(synthetic)
    bases, labels = codec.bases(torch.from_numpy(synthetic.images)), np.repeat(synthetic.labels, synthetic.factor**2)
    if not codec.num_groups:
        return bases, labels, synthetic.groups
    groups = np.tile(np.arange(codec.num_groups), len(bases))
    shown = codec.show(bases.repeat_interleave(codec.num_groups, dim=0), torch.from_numpy(groups))
    return shown, labels.repeat(codec.num_groups), groups


def shown_images(synthetic: SyntheticSet) -> np.ndarray:
    """An image float32 [M, C, H, W] of each stored one, to look at: uncut, and bases in one group after another."""
    codec = stored_codec(replace(synthetic, factor=1))
    bases = codec.bases(torch.from_numpy(synthetic.images))
    groups = torch.arange(len(bases)) % codec.num_groups if codec.num_groups else None
    return codec.show(bases, groups).numpy()


def as_export(synthetic: SyntheticSet) -> Export:
    """The training images of `synthetic` for other programs, and where they come from."""
    images, labels, groups = training_images(synthetic)
    names = ("dataset", "method", "fairness", "ipc", "factor", "digest")
    return Export(
        images=images.contiguous().numpy(),
        labels=labels,
        mean=synthetic.mean,
        std=synthetic.std,
        class_names=synthetic.class_names,
        origin={**{name: getattr(synthetic, name) for name in names}, **synthetic.provenance},
        groups=groups,
        group_names=synthetic.protected_names if groups is not None else (),
    )
