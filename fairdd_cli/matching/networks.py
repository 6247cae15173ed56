"""The networks that a run matches in: initialised, calibrated, and trained on synthetic or on real images."""

from dataclasses import dataclass

import torch

from fairdd_cli.artifacts import Experts
from fairdd_cli.matching.real import RealData
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.networks import Classifier, NetworkSpec, freeze_batch_norm, has_batch_norm
from fairdd_cli.runtime import Progress, Runtime, Streams
from fairdd_cli.training import Subset, TensorImages, TrainingConfig, fit, set_parameters


@dataclass
class Networks:
    """Networks of one specification. Every network is keyed by the counters that it is asked for with."""

    spec: NetworkSpec
    real: RealData
    synthetic: SyntheticImages
    runtime: Runtime
    streams: Streams
    progress: Progress
    trained: Experts | None = None  # networks trained on real images; set before the first iteration

    def draw(self, *key: int, at_end: bool = False) -> Classifier:
        """The network of a matching step: a fresh one, or one between the start and the end of a trained one.

        Its parameters are (1 - u) θ_start + u θ_end with u ~ U(0, 1), as DANCE and others take them, or θ_end of the
        same trained one `at_end`.
        """
        network = self.fresh(*key)
        if self.trained is not None:
            generator = self.streams.numpy("network/trained", *key)
            which, share = int(generator.integers(self.trained.experts)), 1.0 if at_end else generator.random()
            start, end = (self.runtime.to_device(self.trained.parameters(0, which, epoch)) for epoch in (0, -1))
            set_parameters(network, torch.lerp(start, end, share))
            self.calibrate_batch_norm(network, *key)
        return network

    def fresh(self, *key: int) -> Classifier:
        """A network initialised for this `key`, its batch statistics calibrated where it has any."""
        with self.streams.fork_rng("network", *key):
            network = self.spec.build(self.real.shape, self.real.num_classes)
        self.runtime.prepare_module(network)
        self.calibrate_batch_norm(network, *key)
        return network

    def calibrate_batch_norm(self, network: Classifier, *key: int) -> None:
        """Fixes the batch statistics of `network`, where it has any, at those of real images of every class."""
        if has_batch_norm(network):
            freeze_batch_norm(network, self.real.statistics_images(*key))

    def train_on_synthetic(self, network: Classifier, training: TrainingConfig, *key: int) -> None:
        """Trains `network` on the synthetic set as it is now, and calibrates it."""
        with torch.no_grad():
            images, labels = self.synthetic.decoded_images(slice(0, self.real.num_classes), *key)
        on_device = self.runtime.to_device(labels)
        fit(network, TensorImages(images), on_device, training, self.runtime, self.streams, key, self.progress)
        self.calibrate_batch_norm(network, *key)

    def train_on_real(
        self, network: Classifier, training: TrainingConfig, num_images: int, optimizer: torch.optim.SGD, *key: int
    ) -> None:
        """Trains `network` on `num_images` real images drawn at random, and calibrates it.

        The `optimizer` keeps its momentum from one call to the next.
        """
        split = self.real.split
        order = self.streams.numpy("network/real", *key).permutation(len(split))[:num_images]
        labels = self.runtime.to_device(split.labels[order])
        images = Subset(self.real.store, order)
        fit(network, images, labels, training, self.runtime, self.streams, key, self.progress, optimizer)
        self.calibrate_batch_norm(network, *key)

    def accuracy_on_real(self, network: Classifier, per_class: int, *key: int) -> float:
        """The accuracy of `network`, between 0 and 1, on `per_class` real images of each class, drawn for this `key`.

        All ranks are told the same.
        """
        indices = self.real.indices_of_all_classes("query", per_class, *key)
        with torch.no_grad():
            predicted = network.classifier(self.real.embed(network, indices)).argmax(dim=1)
        correct = predicted == self.runtime.to_device(self.real.split.labels[indices])
        return float(self.runtime.broadcast(correct.float().mean()))
