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
from fairdd_cli.training.loop import confusion, fit


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

    def test(self, network: Classifier) -> Tensor:
        """How often it predicts what: counts int64 [classes, groups, classes] of the held-out images."""
        split, images = self.held_out, self.held_out_images
        classes, groups = split.count.shape

        def test() -> Tensor:
            counted = (split.labels, split.protected, (classes, groups), self.alone, self.progress)
            return torch.from_numpy(confusion(network, images, *counted))

        return self.alone.retry_on_oom(self.alone.forward_limit, test, lambda: None)
