"""What images look like to a network, for what is decided by it before the distillation starts."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.networks import Classifier, NetworkSpec
from fairdd_cli.runtime.device import ImageStore, Progress, Runtime
from fairdd_cli.runtime.streams import Streams
from fairdd_cli.training.loop import Selection, Training, TrainingImages, fit

IMAGES = 12_000  # that the describing network is trained on, at most
TRAINING = Training(epochs=1, momentum=0.9, batch=64, augmentation="", drops=())


def embed(network: Classifier, store: TrainingImages, indices: np.ndarray, runtime: Runtime) -> Tensor:
    """The embeddings float32 [n, D] of the images at `indices`, on the device, computed in micro-batches."""

    def embedded() -> Tensor:
        with torch.no_grad(), runtime.arithmetic():
            pieces = runtime.pieces(len(indices), runtime.at_once(network))
            return torch.cat([network.embed(store.take(indices[piece])).float() for piece in pieces])

    return runtime.within_memory(runtime.forward, embedded, lambda: None)


@dataclass
class Description:
    """Embeddings by a network that was briefly trained to tell the classes apart, made when first asked for.

    Such a network takes up what is easiest to see first, and that is what a class is biased in: its embedding
    parts the groups without knowing them. Deeper training would part the classes instead.
    """

    runtime: Runtime
    streams: Streams
    split: Split
    store: ImageStore
    spec: NetworkSpec
    classes: int
    progress: Progress

    @cached_property
    def network(self) -> Classifier:
        """The trained network."""
        with self.streams.ambient("describe"):
            _, *shape = self.store.shape
            network = self.spec.build((shape[0], shape[1], shape[2]), self.classes)
        self.runtime.place(network)
        indices = self.streams.numpy("describe").permutation(len(self.split))[:IMAGES]
        self.progress.start("describing the images", TRAINING.epochs * len(indices))
        labels = self.runtime.to_device(self.split.labels[indices])
        images = Selection(self.store, indices)
        fit(network, images, labels, TRAINING, self.runtime, self.streams, (), self.progress)
        return network

    def __call__(self, indices: np.ndarray) -> Tensor:
        """The embeddings float32 [n, D] of the training images at `indices`, on the device."""
        return embed(self.network, self.store, indices, self.runtime)
