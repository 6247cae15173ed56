"""Fits classifiers to images, and counts their predictions."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.networks import Classifier, has_batch_norm
from fairdd_cli.runtime import Processes, Progress, Runtime, Streams, all_reduce_gradients
from fairdd_cli.training import augmentation as augment
from fairdd_cli.training.configuration import TrainingConfig
from fairdd_cli.training.cutmix import sample_cutmix
from fairdd_cli.training.images import TrainingImages
from fairdd_cli.training.resampling import systematic_resample


def fit(
    network: Classifier,
    images: TrainingImages,
    labels: Tensor,
    training: TrainingConfig,
    runtime: Runtime,
    streams: Streams,
    key: tuple[int, ...],
    progress: Progress,
    optimizer: torch.optim.SGD | None = None,
    weights: np.ndarray | None = None,
) -> None:
    """Trains `network` in place on `images` with `labels` (int64 [N], on the device).

    The order of the images and the augmentation are drawn from `streams` at `key` and the epoch; with `weights` (a
    number for each image) so are the N images of an epoch, each as often as its weight says. An `optimizer` that is
    given keeps its momentum from one call to the next. The images of a batch are sharded over the ranks.
    """
    optimizer = optimizer or training.optimizer(network)
    # Batch normalisation needs its whole batch; any other network may take micro-batches, with the same gradient.
    full_batch = has_batch_norm(network)
    micro_batches = Runtime(runtime.device).micro_batches if full_batch else runtime.micro_batches
    processes = Processes() if full_batch else runtime.processes
    parameters = list(network.parameters())
    network.train()
    for epoch in range(training.epochs):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate_at(epoch)
        order = streams.numpy("train/order", *key, epoch).permutation(len(labels))
        if weights is not None:
            order = systematic_resample(weights, streams.numpy("train/resample", *key, epoch))[order]
        taken = order
        if images.views > 1:
            taken = order * images.views + streams.numpy("train/view", *key, epoch).integers(
                images.views, size=len(order)
            )
        for number, start in enumerate(range(0, len(order), training.batch_size)):
            indices = order[start : start + training.batch_size]
            batch = images.take(taken[start : start + training.batch_size])
            size = (batch.shape[2], batch.shape[3])
            augmented = augment.sample_per_image(
                training.augmentation, len(indices), size, streams.torch("train/augment", *key, epoch, number)
            )
            batch = augmented.apply(batch, torch.arange(len(indices)))
            targets = labels[torch.from_numpy(indices).to(labels.device, non_blocking=True)]
            mix = sample_cutmix(training.cutmix, len(indices), size, streams.numpy("train/cutmix", *key, epoch, number))
            if mix:
                batch, mixed_in = mix.images(batch), targets[mix.partner.to(targets.device, non_blocking=True)]
            optimizer.zero_grad(set_to_none=True)
            for part in micro_batches(processes.shard(len(indices))):
                with runtime.autocast():
                    logits = network(batch[part])
                loss = F.cross_entropy(logits.float(), targets[part], reduction="sum") / len(indices)
                if mix:
                    other = F.cross_entropy(logits.float(), mixed_in[part], reduction="sum") / len(indices)
                    loss = mix.own_weight * loss + (1 - mix.own_weight) * other
                loss.backward()  # type: ignore[no-untyped-call]
            all_reduce_gradients(processes, parameters)
            optimizer.step()
            progress.advance(len(indices) / processes.world_size)
    network.eval()


def predict(
    network: Classifier, images: TrainingImages, count: int, runtime: Runtime, progress: Progress
) -> np.ndarray:
    """The class, int64 [count], that the network takes each of the first `count` images for: of equals the first."""
    predictions = []
    network.eval()
    step = runtime.inference_batch(network)
    with torch.no_grad(), runtime.autocast():
        for start in range(0, count, step):
            batch = images.take(np.arange(start, min(start + step, count)))
            predictions.append(network(batch).argmax(dim=1))
            progress.advance(len(batch) / 3)  # forward only: a third of the work of a training pass
    return torch.cat(predictions).cpu().numpy()


def joint_counts(columns: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """How often each combination of values occurs: int64 of the given `shape`, from a column int64 [N] for each axis.

    Of label, protected value and prediction it is the confusion table.
    """
    size = int(np.prod(shape))
    return np.bincount(np.ravel_multi_index(tuple(columns), shape), minlength=size).reshape(shape).astype(np.int64)
