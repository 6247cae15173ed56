"""One distillation run: what a method is given. It hides the device, precision, processes and micro-batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.matching.distances import reduce_over_targets
from fairdd_cli.matching.run_signals import RunSignals
from fairdd_cli.matching.state import RunState
from fairdd_cli.matching.unrolling import unrolled_sgd
from fairdd_cli.networks import Classifier
from fairdd_cli.training import augmentation as augment


class Run(RunState):
    """A distillation in progress: its state, the `signals` of its images, and the loss and what follows from it."""

    @property
    def signals(self) -> RunSignals:
        """The signals of its real and synthetic images."""
        return RunSignals(self)

    def reduce_loss(self, distances: Tensor, num_targets: Sequence[int]) -> Tensor:
        """One loss of the `distances` [all targets]: those of a class as the strategy says, summed over classes."""
        return reduce_over_targets(distances, num_targets, self.real.strategy.reduce)

    def accumulate_gradient(self, loss: Tensor, *shared: Tensor) -> Tensor:
        """Adds the gradient of `loss` to that of the synthetic images and of `shared`; returns the loss, detached.

        Of the ranks that share a class only one counts.
        """
        if not self.class_shard[1].is_main:
            return torch.zeros_like(loss)
        gradients, own = self.synthetic.gradients(loss, *shared), len(self.synthetic.leaves)
        self.synthetic.accumulate_gradients(gradients[:own])
        for tensor, of_tensor in zip(shared, gradients[own:], strict=True):
            tensor.grad = of_tensor if tensor.grad is None else tensor.grad + of_tensor
        return loss.detach()

    def all_reduced_gradient(self, shared: Tensor) -> Tensor:
        """The gradient of `shared`, which `accumulate_gradient` left there, summed over all ranks."""
        gradient = torch.zeros_like(shared) if shared.grad is None else shared.grad
        return self.runtime.processes.all_reduce(gradient)

    def accumulate_gradient_by_target(
        self, distance: Callable[[int], Tensor], num_targets: int, learned: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of the targets, whose gradient is left in the synthetic images, and the gradient of `learned`.

        `distance` gives that of one target; one graph at a time is in memory, and ranks share the targets. All
        targets share `learned`, whose gradient is therefore the mean over them.
        """
        processes = self.runtime.processes
        own = processes.shard(num_targets)
        distances, by_target = torch.zeros(num_targets, device=learned.device), []
        for target in range(own.start, own.stop):
            value = distance(target)
            by_target.append(self.synthetic.gradients(value, learned))
            distances[target] = value.detach()
        processes.all_reduce(distances).requires_grad_()
        loss = self.reduce_loss(distances, [num_targets])
        (shares,) = torch.autograd.grad(loss, [distances])
        totals = [torch.zeros_like(leaf) for leaf in self.synthetic.leaves.values()]
        of_learned = torch.zeros_like(learned)
        for share, (*gradients, of_target) in zip(shares[own], by_target, strict=True):
            for total, gradient in zip(totals, gradients, strict=True):
                total.add_(share * gradient)
            of_learned += share * of_target / num_targets
        processes.all_reduce(of_learned)
        self.synthetic.accumulate_gradients(totals)
        return loss.detach() / processes.world_size, of_learned

    def synthetic_cross_entropy(
        self, network: Classifier, classes: slice, augmentation: augment.AugmentationParams, *key: int
    ) -> Tensor:
        """The mean cross-entropy of the synthetic images of each of `classes` under `network`, summed over these."""
        images, labels = self.synthetic.decoded_images(classes, *key)
        return self._cross_entropy_sum(network, augmentation.apply(images, labels), labels) / self.synthetic.per_class

    def _cross_entropy_sum(self, network: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        with self.runtime.autocast():
            logits = network(images)
        self.progress.advance(len(labels))
        return F.cross_entropy(logits.float(), self.runtime.to_device(labels), reduction="sum")

    def update_images(self, network: Classifier, *key: int, lr_factor: float = 1.0) -> None:
        """Moves the synthetic images along their gradient and, where it has a weight, that of the cross-entropy."""
        auxiliary = self._cross_entropy_gradients(network, *key) if self.cross_entropy else None
        self.synthetic.optimizer_step(lr_factor, auxiliary, self.cross_entropy)

    @property
    def update_cost(self) -> int:
        """Image passes of `update_images`."""
        return self.num_classes * self.synthetic.per_class if self.cross_entropy else 0

    def _cross_entropy_gradients(self, network: Classifier, *key: int) -> list[Tensor]:
        """The gradients of the mean cross-entropy of all augmented synthetic images under `network`."""
        totals = [torch.zeros_like(leaf) for leaf in self.synthetic.leaves.values()]
        per_class = self.synthetic.per_class
        policy, images_in_all = self.allowed_augmentations(augment.FULL), self.num_classes * per_class
        generator = self.streams.torch("cross-entropy/augment", *key)
        augmentation = augment.sample_per_image(policy, images_in_all, self.real.shape[1:], generator)
        for classes in self.class_chunks():
            images, labels = self.synthetic.decoded_images(classes, *key)
            positions = torch.arange(classes.start * per_class, classes.stop * per_class)
            loss = self._cross_entropy_sum(network, augmentation.apply(images, positions), labels) / images_in_all
            if self.class_shard[1].is_main:  # of the ranks that share a class only one counts
                for total, gradient in zip(totals, self.synthetic.gradients(loss), strict=True):
                    total.add_(gradient)
        return [self.runtime.processes.all_reduce(total) for total in totals]

    # Trajectories

    def expert_parameters(self, target: int, expert: int, epoch: int) -> Tensor:
        """The parameters [P] of an expert of `target` after `epoch` epochs."""
        return self.runtime.to_device(self.experts.parameters(target, expert, epoch))

    def unrolled_sgd(
        self, network: Classifier, start: Tensor, batches: Iterable[tuple[Tensor, Tensor]], step_size: Tensor
    ) -> Tensor:
        """The parameters [P] after an SGD step on each of `batches`, differentiable in images and `step_size`.

        A batch has images and labels int64 on the host.
        """
        return unrolled_sgd(network, start, self._counted(batches), step_size, self.runtime)

    def _counted(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches:
            yield images, self.runtime.to_device(labels)
            self.progress.advance(3 * len(labels))
