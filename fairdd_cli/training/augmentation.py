"""Differentiable Siamese augmentation (Zhao & Bilen, DSA, ICML 2021), batched.

A policy such as `color_crop_cutout_flip_scale_rotate` names operations, of which one is sampled with its parameters.
Siamese augmentation samples once for each class; the class's real and synthetic images share the operation and its
parameters. In training a network, all images of a batch share the operation, and each has parameters of its own.
Sampling happens on the host, so that applying it needs no answer from the device.

A `+` separates stages that follow each other, each sampled by itself: `flip+color+crop_scale_rotate` flips (with its
probability), then colours, and then does one of three operations.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.errors import unknown

Parameters = Mapping[str, Tensor]  # each float or int [n], one for an image

FULL = "color_crop_cutout_flip_scale_rotate"
FLIP_PROBABILITY = 0.5
SCALE = 1.2  # each axis from 1/1.2 to 1.2
ROTATION = math.radians(15)
CROP = 0.125  # of the side
CUTOUT = 0.5  # of the side


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def brightness(images: Tensor, parameters: Parameters) -> Tensor:
    """Adds `brightness` to every value."""
    return images + _per_image(parameters["brightness"])


def saturation(images: Tensor, parameters: Parameters) -> Tensor:
    """Scales by `saturation` about the mean of each pixel's channels."""
    mean = images.mean(dim=1, keepdim=True)
    return (images - mean) * _per_image(parameters["saturation"]) + mean


def contrast(images: Tensor, parameters: Parameters) -> Tensor:
    """Scales by `contrast` about the mean of each image."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * _per_image(parameters["contrast"]) + mean


def color(images: Tensor, parameters: Parameters) -> Tensor:
    """Brightness, saturation and contrast in turn."""
    return contrast(saturation(brightness(images, parameters), parameters), parameters)


def flip(images: Tensor, parameters: Parameters) -> Tensor:
    """Mirrors left and right where `flip`."""
    return torch.where(_per_image(parameters["flip"] > 0), images.flip(3), images)


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Samples `images` bilinearly, with zeros outside, on a grid transformed by `matrix` [n, 2, 3]."""
    # As F.affine_grid does. Under autocast that would multiply in bf16, which has too few digits for a position.
    down, across = ((2 * torch.arange(side, device=matrix.device) + 1) / side - 1 for side in images.shape[2:])
    by_column, by_row, shift = matrix[:, None, None].unbind(4)  # [n, 1, 1, 2]
    grid = by_column * across[:, None] + by_row * down[:, None, None] + shift  # [n, H, W, 2]
    if torch.are_deterministic_algorithms_enabled():
        return _gathered(images, grid)
    return F.grid_sample(images, grid, align_corners=False)


def _gathered(images: Tensor, grid: Tensor) -> Tensor:
    """The result of `F.grid_sample` for `images` at `grid` [n, H, W, 2]; that is not deterministic on a GPU."""
    count, channels, height, width = images.shape
    column, row = (((grid[..., axis] + 1) * side - 1) / 2 for axis, side in enumerate((width, height)))
    pixels, sampled = images.flatten(2), torch.zeros_like(images)
    for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at_column, at_row = column.floor() + right, row.floor() + below
        weight = (1 - (column - at_column).abs()) * (1 - (row - at_row).abs())
        inside = (at_column >= 0) & (at_column < width) & (at_row >= 0) & (at_row < height)
        index = (at_row.clamp(0, height - 1) * width + at_column.clamp(0, width - 1)).long()
        corner = pixels.gather(2, index.view(count, 1, -1).expand(-1, channels, -1)).view_as(images)
        sampled = sampled + corner * (weight * inside)[:, None]
    return sampled


def scale(images: Tensor, parameters: Parameters) -> Tensor:
    """Scales the axes by `scale_x` and `scale_y`."""
    zero = torch.zeros_like(parameters["scale_x"])
    rows = [parameters["scale_x"], zero, zero, zero, parameters["scale_y"], zero]
    return _warp(images, torch.stack(rows, 1).view(-1, 2, 3))


def rotate(images: Tensor, parameters: Parameters) -> Tensor:
    """Rotates by `angle` radians."""
    cosine, sine, zero = parameters["angle"].cos(), parameters["angle"].sin(), torch.zeros_like(parameters["angle"])
    aspect = images.shape[2] / images.shape[3]  # the grid spans -1 … 1 both ways, whatever the sides
    return _warp(images, torch.stack([cosine, -sine * aspect, zero, sine / aspect, cosine, zero], 1).view(-1, 2, 3))


def crop(images: Tensor, parameters: Parameters) -> Tensor:
    """Shifts by (`shift_rows`, `shift_cols`) pixels; what comes in from outside is zero."""
    count, _, height, width = images.shape
    for axis, size, shift in ((2, height, parameters["shift_rows"]), (3, width, parameters["shift_cols"])):
        source = torch.arange(size, device=images.device) + shift[:, None]  # [n or 1, size]
        inside = (source >= 0) & (source < size)
        shape = [-1, 1, 1, 1]
        shape[axis] = size
        index = source.clamp(0, size - 1).view(shape).expand(count, *images.shape[1:])
        images = images.gather(axis, index) * inside.view(shape)
    return images


def cutout(images: Tensor, parameters: Parameters) -> Tensor:
    """Blanks a square of half the side around (`centre_row`, `centre_col`), cut off at the border."""
    inside = []
    for size, centre in ((images.shape[2], parameters["centre_row"]), (images.shape[3], parameters["centre_col"])):
        length = int(size * CUTOUT + 0.5)
        distance = torch.arange(size, device=images.device) - (centre[:, None] - length // 2)
        inside.append((distance >= 0) & (distance < length))
    blank = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images * ~blank


def _sample_color(u: Tensor, height: int, width: int) -> Parameters:
    return {"brightness": u[0] - 0.5, "saturation": 2 * u[1], "contrast": u[2] + 0.5}


def _sample_crop(u: Tensor, height: int, width: int) -> Parameters:
    def shift(value: Tensor, size: int) -> Tensor:
        most = int(size * CROP + 0.5)
        return (value * (2 * most + 1)).long() - most

    return {"shift_rows": shift(u[0], height), "shift_cols": shift(u[1], width)}


def _sample_cutout(u: Tensor, height: int, width: int) -> Parameters:
    def centre(value: Tensor, size: int) -> Tensor:
        odd = int(size * CUTOUT + 0.5) % 2
        return (value * (size + 1 - odd)).long()

    return {"centre_row": centre(u[0], height), "centre_col": centre(u[1], width)}


def _sample_flip(u: Tensor, height: int, width: int) -> Parameters:
    return {"flip": (u[0] < FLIP_PROBABILITY).long()}


def _sample_scale(u: Tensor, height: int, width: int) -> Parameters:
    low = 1 / SCALE
    return {"scale_x": low + u[0] * (SCALE - low), "scale_y": low + u[1] * (SCALE - low)}


def _sample_rotate(u: Tensor, height: int, width: int) -> Parameters:
    return {"angle": (2 * u[0] - 1) * ROTATION}


Apply = Callable[[Tensor, Parameters], Tensor]
SampleParameters = Callable[[Tensor, int, int], Parameters]
OPERATIONS: Mapping[str, tuple[Apply, SampleParameters]] = {
    "color": (color, _sample_color),
    "crop": (crop, _sample_crop),
    "cutout": (cutout, _sample_cutout),
    "flip": (flip, _sample_flip),
    "scale": (scale, _sample_scale),
    "rotate": (rotate, _sample_rotate),
}


@dataclass(frozen=True)
class AugmentationParams:
    """Sampled augmentations: operations, the parameters [samples] of each that occurs, and the next stage.

    `operations[i]` and entry i of its parameters belong together. In Siamese use i is the class.
    """

    operations: tuple[str, ...]
    parameters: Mapping[str, Parameters]
    next_stage: "AugmentationParams | None" = None

    def apply(self, images: Tensor, index: Tensor) -> Tensor:
        """`images` [n, C, H, W] augmented, each by the sample at its `index` (int64 [n], on the host)."""
        images = self._apply_first(images, index) if self.operations else images
        return images if self.next_stage is None else self.next_stage.apply(images, index)

    def _apply_first(self, images: Tensor, index: Tensor) -> Tensor:
        names = list(self.parameters)
        if len(names) == 1:
            return self._apply(names[0], images, index)
        kind = torch.tensor([names.index(name) for name in self.operations])[index]
        counts = torch.bincount(kind, minlength=len(names)).tolist()
        if len(index) in counts:
            return self._apply(names[counts.index(len(index))], images, index)
        order = kind.argsort(stable=True)  # those of an operation follow each other
        back = torch.empty_like(order).index_put_((order,), torch.arange(len(order)))
        sort, back = (permutation.to(images.device, non_blocking=True) for permutation in (order, back))
        parts = zip(names, torch.split(images[sort], counts), torch.split(index[order], counts), strict=True)
        return torch.cat([self._apply(name, part, indices) for name, part, indices in parts if len(indices)])[back]

    def _apply(self, name: str, images: Tensor, index: Tensor) -> Tensor:
        own = self.parameters[name]
        parameters = {key: value[index].to(images.device, non_blocking=True) for key, value in own.items()}
        return OPERATIONS[name][0](images, parameters)


def stages(policy: str) -> list[tuple[str, ...]]:
    """The operations of each stage of `policy` ('' or 'none': no stage); raises UsageError for an unknown one."""
    found = []
    for stage in policy.split("+"):
        names = tuple(name for name in stage.split("_") if name and name != "none")
        for name in names:
            if name not in OPERATIONS:
                raise unknown("augmentation", name, OPERATIONS)
        if names:
            found.append(names)
    return found


def without(policy: str, *excluded: str) -> str:
    """`policy` without the `excluded` operations, and without empty stages."""
    remaining = ["_".join(name for name in stage if name not in excluded) for stage in stages(policy)]
    return "+".join(filter(None, remaining))


def _chain(samples: list[AugmentationParams]) -> AugmentationParams:
    chain: AugmentationParams | None = None
    for sample in reversed(samples):
        chain = replace(sample, next_stage=chain)
    return chain or AugmentationParams((), {})


def sample_siamese(policy: str, classes: int, size: tuple[int, int], generator: torch.Generator) -> AugmentationParams:
    """For each of `classes` an operation with its parameters, to apply by label; `size` is (H, W)."""
    samples = []
    for names in stages(policy):
        chosen = torch.randint(len(names), (classes,), generator=generator).tolist()
        uniform = torch.rand(3, classes, generator=generator)
        parameters = {names[index]: OPERATIONS[names[index]][1](uniform, *size) for index in sorted(set(chosen))}
        samples.append(AugmentationParams(tuple(names[index] for index in chosen), parameters))
    return _chain(samples)


def sample_per_image(policy: str, images: int, size: tuple[int, int], generator: torch.Generator) -> AugmentationParams:
    """One operation for all of `images`, each with parameters of its own; `size` is (H, W)."""
    samples = []
    for names in stages(policy):
        name = names[int(torch.randint(len(names), (1,), generator=generator))]
        uniform = torch.rand(3, images, generator=generator)
        samples.append(AugmentationParams((name,) * images, {name: OPERATIONS[name][1](uniform, *size)}))
    return _chain(samples)
