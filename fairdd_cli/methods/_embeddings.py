"""What the methods that match embeddings share: one matching step over all classes."""

from collections.abc import Callable

from torch import Tensor

from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.run import Run
from fairdd_cli.networks import Classifier
from fairdd_cli.training import augmentation as augment

# The distance [targets] of the synthetic images to each target of a batch, and the noise [] of their sum
DistanceToTargets = Callable[[RealBatch], tuple[Tensor, Tensor]]


def match_embeddings(run: Run, distance_to_targets: DistanceToTargets, iteration: int) -> Tensor:
    """The loss of all classes without its noise; its gradient is accumulated in the synthetic images."""
    loss = run.scalar(0)
    for classes in run.class_chunks():
        batch = run.real.sample_batch(classes, iteration)
        distance, noise = distance_to_targets(batch)
        loss += run.accumulate_gradient(run.reduce_loss(distance, batch.num_targets)) - noise
    return loss


def distance_of_means(
    run: Run, network: Classifier, augmentation: augment.AugmentationParams, name: str
) -> DistanceToTargets:
    """What gives the distance `name` of mean embeddings under `network`."""

    def distance_to_targets(batch: RealBatch) -> tuple[Tensor, Tensor]:
        target, noise = run.signals.real_mean_embeddings(network, batch, augmentation)  # [targets, D]
        synthetic = run.signals.synthetic_mean_embeddings(network, batch, augmentation)  # [classes or cells, D]
        return distances(name, target, synthetic, batch.num_targets), noise

    return distance_to_targets
