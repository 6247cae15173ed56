"""SGD that can be differentiated with respect to the images it trains on and to its step size."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.networks import Classifier
from fairdd_cli.runtime import Runtime
from fairdd_cli.training import functional_call


def unrolled_sgd(
    network: Classifier, start: Tensor, batches: Iterable[tuple[Tensor, Tensor]], step_size: Tensor, runtime: Runtime
) -> Tensor:
    """The parameters [P] after an SGD step on each of `batches`, from the parameters `start` [P].

    A batch has images [B, C, H, W] and labels int64 [B], both on the device. The architecture is that of `network`.
    """
    parameters = start.clone().requires_grad_()
    for images, labels in batches:
        with runtime.autocast():
            logits = functional_call(network, parameters, images)
        loss = F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, labels)
        (gradient,) = torch.autograd.grad(loss, [parameters], create_graph=True)
        parameters = parameters - step_size * gradient
    return parameters
