"""Classification networks of torchvision, `torchvision:NAME`, from scratch and adapted to images of any size.

- The embedding is what enters the last linear layer. SqueezeNet, which classifies by a convolution, is left out.
- Images whose shorter side is below 64 pixels are enlarged bilinearly: these networks divide each side by 32, and a map
  of one pixel cannot be normalised. Inception v3 needs 96, MaxViT exactly 224x224; ViT takes multiples of its patch.
- Grey images are repeated in three channels.
- Dropout and stochastic depth are off, because every random draw of a run has a key; auxiliary classifiers are off.
- Nothing is computed in place and attention by its formula, since gradient matching reads what layers put out and
  differentiates twice.
"""

import math
from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision import models
from torchvision.ops import StochasticDepth

from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.networks._base import Classifier

PREFIX = "torchvision"
CONVOLUTIONAL = "squeezenet"
LEAST_SIDE = {"inception_v3": 96}
USUAL_LEAST_SIDE = 64


@cache
def names() -> list[str]:
    """The classification networks of the installed torchvision that can be used, sorted."""
    return sorted(name for name in models.list_models(module=models) if not name.startswith(CONVOLUTIONAL))


def canonical(name: str) -> str:
    """`name` if it can be used; raises UsageError with the reason, or the nearest name, where not."""
    if name.startswith(CONVOLUTIONAL):
        raise UsageError(f"network '{PREFIX}:{name}' classifies by a convolution: no linear layer reads an embedding")
    if name not in names():
        raise unknown(f"{PREFIX} network", name, names())
    return name


class HardSigmoid(nn.Module):
    """nn.Hardsigmoid, in a form that can be differentiated twice."""

    def forward(self, values: Tensor) -> Tensor:
        return F.relu6(values + 3) / 6


class Network(Classifier):
    """The torchvision network `name` for images of `shape` (C, H, W).

    Raises UsageError for images of other than 1 or 3 channels, and for images that are not square where the network
    takes no others.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, name: str) -> None:
        super().__init__()
        if shape[0] not in (1, 3):
            raise UsageError(f"network '{PREFIX}:{name}' takes images of 1 or 3 channels; these have {shape[0]}")
        self._size = _input_size(name, shape[1], shape[2])
        options: dict[str, Any] = {"image_size": self._size[0]} if name.startswith("vit_") else {}
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": True}
        self.backbone = models.get_model(name, weights=None, num_classes=classes, **options)
        for path, module in [*self.backbone.named_modules()]:
            if isinstance(module, nn.Hardsigmoid):
                self.backbone.set_submodule(path, HardSigmoid())
            if isinstance(module, nn.Dropout | StochasticDepth):
                module.p = 0.0
            if getattr(module, "inplace", False):
                module.inplace = False
        self.rows_are_images = not name.startswith("swin_v2_")  # its position biases are computed once for a batch
        linear = [path for path, module in self.backbone.named_modules() if isinstance(module, nn.Linear)]
        self.classifier = self.backbone.get_submodule(linear[-1])
        self.backbone.set_submodule(linear[-1], nn.Identity())

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, D], what enters the last linear layer."""
        images = images.expand(-1, 3, -1, -1)
        if images.shape[2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True)
        with sdpa_kernel(SDPBackend.MATH):
            embedded: Tensor = self.backbone(images)
        return embedded


def _input_size(name: str, height: int, width: int) -> tuple[int, int]:
    """(H, W) that images of this size are given to the network in; raises UsageError where it needs square ones."""
    if name.startswith(("vit_", "maxvit_")):
        if height != width:
            raise UsageError(f"network '{PREFIX}:{name}' needs square images; these are {height}x{width}")
        if name.startswith("maxvit_"):
            return 224, 224
        patch = int(name.rpartition("_")[2])
        side = math.ceil(max(height, USUAL_LEAST_SIDE) / patch) * patch
        return side, side
    factor = max(1.0, LEAST_SIDE.get(name, USUAL_LEAST_SIDE) / min(height, width))
    return round(height * factor), round(width * factor)
