"""Differentiable Siamese augmentation (Zhao & Bilen, DSA, ICML 2021), batched.

One operation is drawn out of a strategy such as `color_crop_cutout_flip_scale_rotate`, with its parameters, for
each slot. Siamese use has a slot for each class, shared by that class's real and synthetic images; in training a
network each image is a slot and all have the same operation. The draws are made on the host, so that applying them
needs no answer from the device.

A `+` separates stages that follow each other, each with a draw of its own: `flip+color+crop_scale_rotate` always flips
(with its probability) and colours, and then does one of three things.
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


def brightness(images: Tensor, drawn: Parameters) -> Tensor:
    """Adds `brightness` to every value."""
    return images + _per_image(drawn["brightness"])


def saturation(images: Tensor, drawn: Parameters) -> Tensor:
    """Scales by `saturation` about the mean of each pixel's channels."""
    mean = images.mean(dim=1, keepdim=True)
    return (images - mean) * _per_image(drawn["saturation"]) + mean


def contrast(images: Tensor, drawn: Parameters) -> Tensor:
    """Scales by `contrast` about the mean of each image."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * _per_image(drawn["contrast"]) + mean


def color(images: Tensor, drawn: Parameters) -> Tensor:
    """Brightness, saturation and contrast in turn."""
    return contrast(saturation(brightness(images, drawn), drawn), drawn)


def flip(images: Tensor, drawn: Parameters) -> Tensor:
    """Mirrors left and right where `flip`."""
    return torch.where(_per_image(drawn["flip"] > 0), images.flip(3), images)


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Samples `images` bilinearly, with zeros outside, on a grid transformed by `matrix` [n, 2, 3]."""
    # As F.affine_grid does, whose product would be one of bf16 where arithmetic is: too few digits for a place.
    down, across = ((2 * torch.arange(side, device=matrix.device) + 1) / side - 1 for side in images.shape[2:])
    by_column, by_row, shift = matrix[:, None, None].unbind(4)  # [n, 1, 1, 2]
    grid = by_column * across[:, None] + by_row * down[:, None, None] + shift  # [n, H, W, 2]
    if torch.are_deterministic_algorithms_enabled():
        return _gathered(images, grid)
    return F.grid_sample(images, grid, align_corners=False)


def _gathered(images: Tensor, grid: Tensor) -> Tensor:
    """What `F.grid_sample` makes of `images` at `grid` [n, H, W, 2]; that refuses to be deterministic on a GPU."""
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


def scale(images: Tensor, drawn: Parameters) -> Tensor:
    """Scales the axes by `scale_x` and `scale_y`."""
    zero = torch.zeros_like(drawn["scale_x"])
    rows = [drawn["scale_x"], zero, zero, zero, drawn["scale_y"], zero]
    return _warp(images, torch.stack(rows, 1).view(-1, 2, 3))


def rotate(images: Tensor, drawn: Parameters) -> Tensor:
    """Rotates by `angle` radians."""
    cosine, sine, zero = drawn["angle"].cos(), drawn["angle"].sin(), torch.zeros_like(drawn["angle"])
    aspect = images.shape[2] / images.shape[3]  # the grid spans -1 … 1 both ways, whatever the sides
    return _warp(images, torch.stack([cosine, -sine * aspect, zero, sine / aspect, cosine, zero], 1).view(-1, 2, 3))


def crop(images: Tensor, drawn: Parameters) -> Tensor:
    """Shifts by (`shift_rows`, `shift_cols`) pixels; what comes in from outside is zero."""
    count, _, height, width = images.shape
    for axis, size, shift in ((2, height, drawn["shift_rows"]), (3, width, drawn["shift_cols"])):
        source = torch.arange(size, device=images.device) + shift[:, None]  # [n or 1, size]
        inside = (source >= 0) & (source < size)
        shape = [-1, 1, 1, 1]
        shape[axis] = size
        index = source.clamp(0, size - 1).view(shape).expand(count, *images.shape[1:])
        images = images.gather(axis, index) * inside.view(shape)
    return images


def cutout(images: Tensor, drawn: Parameters) -> Tensor:
    """Blanks a square of half the side around (`centre_row`, `centre_col`), cut off at the border."""
    inside = []
    for size, centre in ((images.shape[2], drawn["centre_row"]), (images.shape[3], drawn["centre_col"])):
        length = int(size * CUTOUT + 0.5)
        distance = torch.arange(size, device=images.device) - (centre[:, None] - length // 2)
        inside.append((distance >= 0) & (distance < length))
    blank = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images * ~blank


def _draw_color(u: Tensor, height: int, width: int) -> Parameters:
    return {"brightness": u[0] - 0.5, "saturation": 2 * u[1], "contrast": u[2] + 0.5}


def _draw_crop(u: Tensor, height: int, width: int) -> Parameters:
    def shift(value: Tensor, size: int) -> Tensor:
        most = int(size * CROP + 0.5)
        return (value * (2 * most + 1)).long() - most

    return {"shift_rows": shift(u[0], height), "shift_cols": shift(u[1], width)}


def _draw_cutout(u: Tensor, height: int, width: int) -> Parameters:
    def centre(value: Tensor, size: int) -> Tensor:
        odd = int(size * CUTOUT + 0.5) % 2
        return (value * (size + 1 - odd)).long()

    return {"centre_row": centre(u[0], height), "centre_col": centre(u[1], width)}


def _draw_flip(u: Tensor, height: int, width: int) -> Parameters:
    return {"flip": (u[0] < FLIP_PROBABILITY).long()}


def _draw_scale(u: Tensor, height: int, width: int) -> Parameters:
    low = 1 / SCALE
    return {"scale_x": low + u[0] * (SCALE - low), "scale_y": low + u[1] * (SCALE - low)}


def _draw_rotate(u: Tensor, height: int, width: int) -> Parameters:
    return {"angle": (2 * u[0] - 1) * ROTATION}


Apply = Callable[[Tensor, Parameters], Tensor]
DrawParameters = Callable[[Tensor, int, int], Parameters]
OPERATIONS: Mapping[str, tuple[Apply, DrawParameters]] = {
    "color": (color, _draw_color),
    "crop": (crop, _draw_crop),
    "cutout": (cutout, _draw_cutout),
    "flip": (flip, _draw_flip),
    "scale": (scale, _draw_scale),
    "rotate": (rotate, _draw_rotate),
}


@dataclass(frozen=True)
class Draw:
    """For each slot the name of its operation, the parameters [slots] of each operation that occurs, what follows."""

    operation: tuple[str, ...]
    parameters: Mapping[str, Parameters]
    then: "Draw | None" = None

    def apply(self, images: Tensor, slot: Tensor) -> Tensor:
        """`images` [n, C, H, W] augmented, each by the draw of its `slot` (int64 [n], on the host)."""
        images = self._apply_first(images, slot) if self.operation else images
        return images if self.then is None else self.then.apply(images, slot)

    def _apply_first(self, images: Tensor, slot: Tensor) -> Tensor:
        names = list(self.parameters)
        if len(names) == 1:
            return self._apply(names[0], images, slot)
        kind = torch.tensor([names.index(name) for name in self.operation])[slot]
        counts = torch.bincount(kind, minlength=len(names)).tolist()
        if len(slot) in counts:
            return self._apply(names[counts.index(len(slot))], images, slot)
        order = kind.argsort(stable=True)  # those of an operation follow each other
        back = torch.empty_like(order).index_put_((order,), torch.arange(len(order)))
        there, back = (index.to(images.device, non_blocking=True) for index in (order, back))
        parts = zip(names, torch.split(images[there], counts), torch.split(slot[order], counts), strict=True)
        return torch.cat([self._apply(name, part, slots) for name, part, slots in parts if len(slots)])[back]

    def _apply(self, name: str, images: Tensor, slot: Tensor) -> Tensor:
        drawn = {key: value[slot].to(images.device, non_blocking=True) for key, value in self.parameters[name].items()}
        return OPERATIONS[name][0](images, drawn)


def stages(strategy: str) -> list[tuple[str, ...]]:
    """The operations of each stage of `strategy` ('' or 'none': no stage); raises UsageError for an unknown one."""
    found = []
    for stage in strategy.split("+"):
        names = tuple(name for name in stage.split("_") if name and name != "none")
        for name in names:
            if name not in OPERATIONS:
                raise unknown("augmentation", name, OPERATIONS)
        if names:
            found.append(names)
    return found


def without(strategy: str, *left_out: str) -> str:
    """`strategy` without the operations `left_out`."""
    kept = ["_".join(name for name in stage if name not in left_out) for stage in stages(strategy)]
    return "+".join(filter(None, kept))


def _chained(draws: list[Draw]) -> Draw:
    chain: Draw | None = None
    for draw in reversed(draws):
        chain = replace(draw, then=chain)
    return chain or Draw((), {})


def draw_siamese(strategy: str, slots: int, size: tuple[int, int], generator: torch.Generator) -> Draw:
    """A draw with an operation of its own for each of `slots` (classes); `size` is (H, W)."""
    draws = []
    for names in stages(strategy):
        chosen = torch.randint(len(names), (slots,), generator=generator).tolist()
        uniform = torch.rand(3, slots, generator=generator)
        parameters = {names[index]: OPERATIONS[names[index]][1](uniform, *size) for index in sorted(set(chosen))}
        draws.append(Draw(tuple(names[index] for index in chosen), parameters))
    return _chained(draws)


def draw_single(strategy: str, images: int, size: tuple[int, int], generator: torch.Generator) -> Draw:
    """A draw with one operation for all of `images`, each with parameters of its own; `size` is (H, W)."""
    draws = []
    for names in stages(strategy):
        name = names[int(torch.randint(len(names), (1,), generator=generator))]
        uniform = torch.rand(3, images, generator=generator)
        draws.append(Draw((name,) * images, {name: OPERATIONS[name][1](uniform, *size)}))
    return _chained(draws)
