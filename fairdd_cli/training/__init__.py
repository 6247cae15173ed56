"""Fitting classifiers: the training configuration, the loop, augmentation, CutMix and trained features.

Evaluation trains its networks here, and so do methods that need trained networks or experts.
"""

from fairdd_cli.training import augmentation
from fairdd_cli.training.configuration import TrainingConfig
from fairdd_cli.training.cutmix import CutMix, sample_cutmix
from fairdd_cli.training.features import FeatureExtractor, embed
from fairdd_cli.training.images import Subset, TensorImages, TrainingImages, decoded_images
from fairdd_cli.training.loop import fit, predict
from fairdd_cli.training.parameters import functional_call, parameter_vector, set_parameters
from fairdd_cli.training.resampling import even_shares, systematic_resample
from fairdd_cli.training.trials import Trials

__all__ = [
    "CutMix",
    "FeatureExtractor",
    "Subset",
    "TensorImages",
    "TrainingConfig",
    "TrainingImages",
    "Trials",
    "augmentation",
    "decoded_images",
    "embed",
    "even_shares",
    "fit",
    "functional_call",
    "parameter_vector",
    "predict",
    "sample_cutmix",
    "set_parameters",
    "systematic_resample",
]
