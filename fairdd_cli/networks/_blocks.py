"""The block that follows a convolution: normalisation, activation and pooling."""

import torch
from torch import Tensor, nn

from fairdd_cli.networks._kernels import FusedNormActPool, channels_last


class NormActPool(nn.Sequential):
    """Normalisation, activation and pooling after a convolution; as layers, or `fused` in compiled kernels."""

    def __init__(self, norm: nn.Module, activation: nn.Module, pooling: nn.Module) -> None:
        super().__init__(norm, activation, pooling)
        self.fused = False

    @property
    def fusible(self) -> bool:
        """Whether there is a kernel for it: instance normalisation, ReLU, 2x2 average pooling."""
        norm, activation, pooling = self
        by_instance = isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels
        return by_instance and isinstance(activation, nn.ReLU) and isinstance(pooling, nn.AvgPool2d)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] half as large where it pools."""
        if not self.fused:
            result: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return result
        norm = self[0]
        pooled: Tensor = FusedNormActPool.apply(channels_last(x), norm.weight, norm.bias, norm.eps)
        return pooled


def fusible_values(network: nn.Module, shape: tuple[int, ...]) -> int:
    """How many values of one image of `shape` (C, H, W) pass through blocks that have a kernel."""
    counts: list[int] = []
    blocks = [module for module in network.modules() if isinstance(module, NormActPool) and module.fusible]
    handles = [
        block.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0][0].numel())) for block in blocks
    ]
    if blocks:
        with torch.no_grad():
            network(torch.zeros(1, *shape, device=next(network.parameters()).device))
    for handle in handles:
        handle.remove()
    return sum(counts)
