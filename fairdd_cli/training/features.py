"""Features of images in a briefly trained network, for choices made before the distillation starts."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.networks import Classifier, NetworkSpec
from fairdd_cli.runtime import ImageStore, Progress, Runtime, Streams
from fairdd_cli.training.configuration import TrainingConfig
from fairdd_cli.training.images import Subset, TrainingImages
from fairdd_cli.training.loop import fit

MAX_IMAGES = 12_000  # that the feature extractor is trained on
TRAINING = TrainingConfig(epochs=1, momentum=0.9, batch_size=64, augmentation="", lr_milestones=())


def embed(network: Classifier, store: TrainingImages, indices: np.ndarray, runtime: Runtime) -> Tensor:
    """The embeddings float32 [n, D] of the images at `indices`, on the device, computed in micro-batches."""

    def embedded() -> Tensor:
        with torch.no_grad(), runtime.autocast():
            parts = runtime.micro_batches(len(indices), runtime.inference_batch(network))
            return torch.cat([network.embed(store.take(indices[part])).float() for part in parts])

    return runtime.retry_on_oom(runtime.forward_limit, embedded, lambda: None)


@dataclass
class FeatureExtractor:
    """Embeddings by a network that was trained, briefly unless told, to tell the classes apart; made when asked for.

    Such a network learns first what is easiest to see, and that is what a class is biased in: its embedding
    separates the groups without knowing them. Longer training would separate the classes instead.
    """

    runtime: Runtime
    streams: Streams
    split: Split
    store: ImageStore
    spec: NetworkSpec
    classes: int
    progress: Progress
    epochs: int = TRAINING.epochs

    @cached_property
    def network(self) -> Classifier:
        """The trained network."""
        with self.streams.fork_rng("describe"):
            _, *shape = self.store.shape
            network = self.spec.build((shape[0], shape[1], shape[2]), self.classes)
        self.runtime.prepare_module(network)
        indices = self.streams.numpy("describe").permutation(len(self.split))[:MAX_IMAGES]
        self.progress.start("training feature extractor", self.epochs * len(indices))
        labels = self.runtime.to_device(self.split.labels[indices])
        images = Subset(self.store, indices)
        fit(
            network,
            images,
            labels,
            replace(TRAINING, epochs=self.epochs),
            self.runtime,
            self.streams,
            (),
            self.progress,
        )
        return network

    def __call__(self, indices: np.ndarray) -> Tensor:
        """The embeddings float32 [n, D] of the training images at `indices`, on the device."""
        return embed(self.network, self.store, indices, self.runtime)
