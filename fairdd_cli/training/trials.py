"""Networks trained on the same images and tested on the same split: what evaluation and validation have in common."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.networks import Classifier, NetworkSpec
from fairdd_cli.runtime import Progress, Runtime, Streams
from fairdd_cli.training.configuration import TrainingConfig
from fairdd_cli.training.images import TrainingImages
from fairdd_cli.training.loop import fit, joint_counts, predict


@dataclass(frozen=True)
class Trials:
    """What networks are trained on, with `labels` (int64 [N], on the device), and the `held_out` images of a test.

    A rank trains and tests a network by itself. Initialisation, order and augmentation are drawn from `streams` by the
    number of the network; with `weights` so are the images of an epoch.
    """

    images: TrainingImages
    labels: Tensor
    training: TrainingConfig
    held_out: Split
    held_out_images: TrainingImages
    runtime: Runtime
    streams: Streams
    progress: Progress
    weights: np.ndarray | None = None  # float64 [N]: how often an image is drawn

    @property
    def cost(self) -> float:
        """Image passes of a network: trained, and tested at a third of that for an image."""
        return self.training.epochs * len(self.labels) + len(self.held_out) / 3

    @cached_property
    def alone(self) -> Runtime:
        """The runtime of this rank by itself; what memory teaches it does not reach `runtime`."""
        return self.runtime.without_group()

    def train(self, spec: NetworkSpec, number: int) -> Classifier:
        """A trained network."""
        classes, _ = self.held_out.count.shape
        _, channels, height, width = self.held_out.images.shape

        def train() -> Classifier:
            with self.streams.fork_rng("evaluate/network", number):
                network = spec.build((channels, height, width), classes)
            self.alone.prepare_module(network)
            fit(
                network,
                self.images,
                self.labels,
                self.training,
                self.alone,
                self.streams,
                (number,),
                self.progress,
                weights=self.weights,
            )
            return network

        return self.alone.retry_on_oom(self.training.batch_size, train, lambda: None)

    def predict(self, network: Classifier) -> np.ndarray:
        """The class int64 [N] that it takes each held-out image for."""

        def predictions() -> np.ndarray:
            return predict(network, self.held_out_images, len(self.held_out), self.alone, self.progress)

        return self.alone.retry_on_oom(self.alone.forward_limit, predictions, lambda: None)

    def test(self, network: Classifier) -> Tensor:
        """How often it predicts what: counts int64 [classes, groups, classes] of the held-out images."""
        return self.confusion(self.predict(network))

    def confusion(self, predicted: np.ndarray) -> Tensor:
        """How often what was `predicted`: counts int64 [classes, groups, classes] of the held-out images."""
        split = self.held_out
        classes, groups = split.count.shape
        columns = (split.labels, split.protected, predicted)
        return torch.from_numpy(joint_counts(columns, (classes, groups, classes)))

    def pair_counts(self, predicted: np.ndarray, pairs: np.ndarray) -> Tensor:
        """How often both images of a source were `predicted` as what: counts int64 [classes, classes, classes].

        The axes are label, prediction for the image in the first group, prediction for that in the second; `pairs`
        int64 [P, 2] are the positions of the images.
        """
        columns = (self.held_out.labels[pairs[:, 0]], *predicted[pairs].T)
        return torch.from_numpy(joint_counts(columns, (len(self.held_out.count),) * 3))
