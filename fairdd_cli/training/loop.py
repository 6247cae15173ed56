"""Fits classifiers to images, and counts what they predict."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.errors import UsageError
from fairdd_cli.networks import Classifier, has_batch_statistics
from fairdd_cli.runtime.device import Progress, Runtime
from fairdd_cli.runtime.processes import Processes, share_gradient
from fairdd_cli.runtime.streams import Streams
from fairdd_cli.training import augmentation as augment

MOST = 10**6  # epochs, and images of a batch, that a file may ask for
NUMBERS = ("learning_rate", "momentum", "weight_decay", "drop_factor", "cutmix")


@dataclass(frozen=True)
class Training:
    """How a network is trained: SGD whose learning rate is multiplied by `drop_factor` at each of `drops`.

    `drops` are shares of the epochs; `augmentation` names the operations of which each batch draws one ('' none);
    `cutmix` is the probability that a batch is mixed. The defaults are those of DM and DSA for evaluation.
    """

    epochs: int = 1000
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    augmentation: str = augment.FULL
    drops: tuple[float, ...] = (0.5,)
    drop_factor: float = 0.1
    cutmix: float = 0.0

    def rate(self, epoch: int) -> float:
        """The learning rate of `epoch` (counted from 0)."""
        return self.learning_rate * self.drop_factor ** sum(epoch >= drop * self.epochs for drop in self.drops)

    def optimizer(self, network: Classifier) -> torch.optim.SGD:
        """A fresh optimiser of the parameters of `network`."""
        return torch.optim.SGD(network.parameters(), self.learning_rate, self.momentum, weight_decay=self.weight_decay)

    def to_json(self) -> dict[str, Any]:
        """The protocol as it is stored in files."""
        return {**asdict(self), "drops": list(self.drops)}

    @staticmethod
    def from_json(stored: dict[str, Any], where: str) -> "Training":
        """The protocol stored in the file `where`; raises UsageError where it is not one."""
        default = Training()
        unknown = set(stored) - set(asdict(default))
        drops = stored.get("drops", [])
        numbers = [stored.get(name, 0) for name in NUMBERS]
        sound = (
            not unknown
            and isinstance(drops, list)
            and all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in [*numbers, *drops])
            and all(
                type(stored.get(name, 1)) is int and 1 <= stored.get(name, 1) <= MOST for name in ("epochs", "batch")
            )
            and stored.get("cutmix", 0) <= 1
            and isinstance(stored.get("augmentation", ""), str)
        )
        if not sound:
            raise UsageError(f"'{where}': its evaluation protocol is not one that this fairdd knows")
        augment.stages(stored.get("augmentation", ""))
        return Training(**{**stored, "drops": tuple(drops)})


class TrainingImages(Protocol):
    """Images that are taken by index, normalised and on the device."""

    def take(self, indices: np.ndarray) -> Tensor:
        """float32 [len(indices), C, H, W]."""
        ...


@dataclass(frozen=True)
class TensorImages:
    """Images that are a tensor on the device already."""

    tensor: Tensor

    def take(self, indices: np.ndarray) -> Tensor:
        """The images at `indices`."""
        return self.tensor[torch.from_numpy(indices).to(self.tensor.device, non_blocking=True)]


@dataclass(frozen=True)
class Selection:
    """Some of other `images`, those at `indices`, numbered afresh."""

    images: TrainingImages
    indices: np.ndarray  # int64 [n]

    def take(self, indices: np.ndarray) -> Tensor:
        """The images at `indices` of the selection."""
        return self.images.take(self.indices[indices])


@dataclass(frozen=True)
class Mix:
    """CutMix (Yun et al., ICCV 2019): the `box` of each image of a batch is taken from its `partner`.

    The label keeps the weight `kept`, the share of the image outside the box; the partner's has the rest.
    """

    partner: Tensor  # int64 [B]
    box: tuple[slice, slice]
    kept: float

    def images(self, images: Tensor) -> Tensor:
        """The mixed images [B, C, H, W]."""
        rows, cols = self.box
        mixed = images.clone()
        mixed[:, :, rows, cols] = images[self.partner.to(images.device, non_blocking=True), :, rows, cols]
        return mixed


def draw_mix(probability: float, batch: int, size: tuple[int, int], generator: np.random.Generator) -> Mix | None:
    """With `probability` a mix of `batch` images of `size` (H, W); the box's share is uniform, its centre too."""
    if generator.random() >= probability:
        return None
    sides = np.sqrt(generator.random()) * np.array(size)
    centre = generator.random(2) * np.array(size)
    low, high = (np.clip(centre + step * sides / 2, 0, size).astype(int) for step in (-1, 1))
    kept = 1 - float(np.prod(high - low)) / (size[0] * size[1])
    partner = torch.from_numpy(generator.permutation(batch))
    return Mix(partner, (slice(low[0], high[0]), slice(low[1], high[1])), kept)


def fit(
    network: Classifier,
    images: TrainingImages,
    labels: Tensor,
    training: Training,
    runtime: Runtime,
    streams: Streams,
    key: tuple[int, ...],
    progress: Progress,
    optimizer: torch.optim.SGD | None = None,
) -> None:
    """Trains `network` in place on `images` with `labels` (int64 [N], on the device).

    The order of the images and the augmentation are drawn from `streams` at `key` and the epoch. An `optimizer`
    that is given keeps its momentum from one call to the next. The images of a batch are shared out over the
    runtime's processes.
    """
    optimizer = optimizer or training.optimizer(network)
    # Batch normalisation sees its whole batch; any other network may see it piece by piece, with the same gradient.
    whole = has_batch_statistics(network)
    pieces = Runtime(runtime.device).pieces if whole else runtime.pieces
    processes = Processes() if whole else runtime.processes
    parameters = list(network.parameters())
    network.train()
    for epoch in range(training.epochs):
        for group in optimizer.param_groups:
            group["lr"] = training.rate(epoch)
        order = streams.numpy("train/order", *key, epoch).permutation(len(labels))
        for number, start in enumerate(range(0, len(order), training.batch)):
            batch = order[start : start + training.batch]
            taken = images.take(batch)
            size = (taken.shape[2], taken.shape[3])
            draw = augment.draw_single(
                training.augmentation, len(batch), size, streams.torch("train/augment", *key, epoch, number)
            )
            taken = draw.apply(taken, torch.arange(len(batch)))
            answers = labels[torch.from_numpy(batch).to(labels.device, non_blocking=True)]
            mix = draw_mix(training.cutmix, len(batch), size, streams.numpy("train/cutmix", *key, epoch, number))
            if mix:
                taken, partners = mix.images(taken), answers[mix.partner.to(answers.device, non_blocking=True)]
            optimizer.zero_grad(set_to_none=True)
            for piece in pieces(processes.share(len(batch))):
                with runtime.arithmetic():
                    logits = network(taken[piece])
                part = F.cross_entropy(logits.float(), answers[piece], reduction="sum") / len(batch)
                if mix:
                    other = F.cross_entropy(logits.float(), partners[piece], reduction="sum") / len(batch)
                    part = mix.kept * part + (1 - mix.kept) * other
                part.backward()  # type: ignore[no-untyped-call]
            share_gradient(processes, parameters)
            optimizer.step()
            progress.advance(len(batch) / processes.count)
    network.eval()


def parameter_vector(network: Classifier) -> Tensor:
    """A copy of all parameters of `network`, one after another, [P]."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def set_parameters(network: Classifier, vector: Tensor) -> None:
    """Copies `vector` [P] into the parameters of `network`, whose memory layout stays."""
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter, part in zip(parameters, torch.split(vector, [each.numel() for each in parameters]), strict=True):
            parameter.copy_(part.view(parameter.shape))


def call_with(network: Classifier, vector: Tensor, images: Tensor) -> Tensor:
    """The logits of `images` under the parameters in `vector` [P] instead of those of `network`; differentiable."""
    named = dict(network.named_parameters())
    parts = torch.split(vector, [parameter.numel() for parameter in named.values()])
    values = {name: part.view(named[name].shape) for name, part in zip(named, parts, strict=True)}
    logits: Tensor = torch.func.functional_call(network, values, (images,))
    return logits


def confusion(
    network: Classifier,
    images: TrainingImages,
    labels: np.ndarray,
    protected: np.ndarray,
    shape: tuple[int, int],
    runtime: Runtime,
    progress: Progress,
) -> np.ndarray:
    """Counts int64 [classes, groups, classes] of test images by label, protected value and prediction.

    `shape` is (classes, groups). Ties count as the first class.
    """
    classes, groups = shape
    predictions = []
    network.eval()
    step = runtime.at_once(network)
    with torch.no_grad(), runtime.arithmetic():
        for start in range(0, len(labels), step):
            taken = images.take(np.arange(start, min(start + step, len(labels))))
            predictions.append(network(taken).argmax(dim=1))
            progress.advance(len(taken) / 3)  # forward only: a third of the work of a training pass
    predicted = torch.cat(predictions).cpu().numpy()
    flat = np.bincount((labels * groups + protected) * classes + predicted, minlength=classes * groups * classes)
    return flat.reshape(classes, groups, classes).astype(np.int64)
