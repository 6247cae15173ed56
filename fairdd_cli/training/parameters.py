"""A network's parameters as one vector, as trajectory matching needs them."""

import torch
from torch import Tensor

from fairdd_cli.networks import Classifier


def parameter_vector(network: Classifier) -> Tensor:
    """A copy of all parameters of `network`, one after another, [P]."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def set_parameters(network: Classifier, vector: Tensor) -> None:
    """Copies `vector` [P] into the parameters of `network`, whose memory layout stays."""
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter, part in zip(parameters, torch.split(vector, [each.numel() for each in parameters]), strict=True):
            parameter.copy_(part.view(parameter.shape))


def functional_call(network: Classifier, vector: Tensor, images: Tensor) -> Tensor:
    """The logits of `images` under the parameters in `vector` [P] instead of those of `network`; differentiable."""
    named = dict(network.named_parameters())
    parts = torch.split(vector, [parameter.numel() for parameter in named.values()])
    values = {name: part.view(named[name].shape) for name, part in zip(named, parts, strict=True)}
    logits: Tensor = torch.func.functional_call(network, values, (images,))
    return logits
