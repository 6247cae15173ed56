"""The protocol that a method's synthetic sets are evaluated by, on a given data set."""

from dataclasses import replace

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.methods import METHODS
from fairdd_cli.training import TrainingConfig
from fairdd_cli.training import augmentation as augment


def protocol_of(method: str, dataset: BiasedDataset) -> TrainingConfig:
    """The protocol by which sets of `method` are evaluated, without mirroring where that changes a class."""
    training: TrainingConfig = METHODS.load(method).Method.evaluation
    left_out = () if dataset.mirror_keeps_class else ("flip",)
    return replace(training, augmentation=augment.without(training.augmentation, *left_out))
