"""Compiled kernels of instance normalisation, ReLU and 2x2 average pooling: one pass over memory each way.

The three layers do a few operations per value, but one after another they read and write each value a dozen times; a
compiler makes one kernel of them. It cannot differentiate its own kernels twice, as gradient matching needs, so the
backward pass and the backward pass of that are written out here and compiled like the forward pass.

Derivation, for one channel of one image with n pixels. mean(z) is the mean over its pixels, w and b are the channel's
weight and bias, r = rstd = 1 / sqrt(var(x) + eps).

Forward:     h = (x - mean(x)) * r,   y = pool(relu(w * h + b)).
Backward:    s = "slope", the gradient of w * h + b: that of y, spread evenly over its 2x2 window, where w * h + b > 0.
             The derivative of normalisation is the projection P(z) = z - mean(z) - h * mean(z * h), times r:
             dx = w * r * P(s),   dw = n * mean(s * h),   db = n * mean(s).
Double:      for gradients u, u_w, u_b of dx, dw, db. P is symmetric, mean(u * P(s)) = mean(P(u) * s), so that
             to s:  w * r * P(u) + u_w * h + u_b, which goes back to the gradient of y like s itself;
             to w:  n * r * mean(P(u) * s);
             to x:  through h, which dw and P contain, r * P(q) with
                    q = u_w * s - w * r * (mean(s * h) * u + mean(u * h) * s),
                    and through r, whose derivative is -r * r * h / n: -w * r * r * h * mean(P(u) * s).

All tensors are [N, C, H, W]; means are [N, C, 1, 1]; weight and bias are [C].
"""

from collections.abc import Iterator
from functools import cache
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairdd_cli.networks._base import upcast

PIXELS = (2, 3)


def _windows(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The pixels of [N, C, H, W] at each of the four positions in their 2x2 windows, as [N, C, H // 2, W // 2].

    The kernel computes what is pooled for each position and adds it up: a pooling layer would write its whole input
    out first.
    """
    height, width = (side // 2 * 2 for side in tensors[0].shape[2:])
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        yield tuple(upcast(tensor[:, :, row:height:2, column:width:2]) for tensor in tensors)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, rstd)."""
    # Both moments come from one pass, about the mean of a few pixels: so near the true mean nothing cancels.
    shift = upcast(x[:, :, ::4, ::4]).mean(PIXELS, keepdim=True)
    shifted = upcast(x) - shift
    first, second = shifted.mean(PIXELS, keepdim=True), shifted.square().mean(PIXELS, keepdim=True)
    mean, rstd = shift + first, torch.rsqrt((second - first.square()).clamp(min=0) + eps)
    total = torch.zeros((), device=x.device)
    for (pixels,) in _windows(x):
        total = total + F.relu((pixels - mean) * rstd * weight[:, None, None] + bias[:, None, None])
    return (total / 4).to(x.dtype), mean, rstd


def _upstream(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """(h, the gradient of ReLU's input)."""
    hidden = (upcast(x) - mean) * rstd
    through = hidden * weight[:, None, None] + bias[:, None, None] > 0
    spread = upcast(grad).repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    spread = F.pad(spread, (0, x.shape[3] % 2, 0, x.shape[2] % 2))  # pooling leaves an odd row or column out
    return hidden, torch.where(through, spread, 0.0)


def _backward(
    x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(the gradient of x, the mean of slope * h, the mean of slope)."""
    hidden, slope = _upstream(x, mean, rstd, weight, bias, grad)
    slope_hidden, slope_mean = (slope * hidden).mean(PIXELS, keepdim=True), slope.mean(PIXELS, keepdim=True)
    back = weight[:, None, None] * rstd * (slope - slope_mean - hidden * slope_hidden)
    return back.to(x.dtype), slope_hidden, slope_mean


def _double(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    grad: Tensor,
    slope_hidden: Tensor,
    slope_mean: Tensor,
    up: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of (x, weight [N, C, 1, 1], grad) for the gradients `up…` of what the backward pass gave."""
    hidden, slope = _upstream(x, mean, rstd, weight, bias, grad)
    up, scale = upcast(up), weight[:, None, None] * rstd
    up_mean, up_hidden = up.mean(PIXELS, keepdim=True), (up * hidden).mean(PIXELS, keepdim=True)
    projected = up - up_mean - hidden * up_hidden
    both = (projected * slope).mean(PIXELS, keepdim=True)
    # What reaches h, and the two means that P subtracts; h depends on x by rstd * P.
    reach = up_weight[:, None, None] * slope - scale * (slope_hidden * up + up_hidden * slope)
    reach_mean = up_weight[:, None, None] * slope_mean - scale * (slope_hidden * up_mean + up_hidden * slope_mean)
    reach_hidden = up_weight[:, None, None] * slope_hidden - scale * 2 * slope_hidden * up_hidden
    to_x = rstd * (reach - reach_mean - hidden * reach_hidden) - scale * rstd * hidden * both
    to_grad = torch.zeros((), device=x.device)
    for pixels, above in _windows(x, up):
        hidden = (pixels - mean) * rstd
        from_slope = scale * (above - up_mean - hidden * up_hidden)
        from_slope = from_slope + up_weight[:, None, None] * hidden + up_bias[:, None, None]
        through = hidden * weight[:, None, None] + bias[:, None, None] > 0
        to_grad = to_grad + torch.where(through, from_slope, 0.0)
    return to_x.to(x.dtype), rstd * both * (x.shape[2] * x.shape[3]), (to_grad / 4).to(grad.dtype)


class _Kernel:
    """`function`, compiled for images of one shape, in any number. It gives no derivatives: its callers do."""

    def __init__(self, function: FunctionType) -> None:
        # torch keeps a few compiled versions for each code object. With code of its own, no shape of images evicts
        # another.
        self._run = torch.compile(FunctionType(function.__code__.replace(), function.__globals__), dynamic=False)
        self._general = False

    def __call__(self, *arguments: Any) -> Any:
        plain = [value.detach() if isinstance(value, Tensor) else value for value in arguments]
        if not self._general and len(plain[0]) > 1:  # one image is a case of its own for the compiler
            for value in plain:
                if isinstance(value, Tensor) and value.ndim == 4:
                    torch._dynamo.mark_dynamic(value, 0)
            self._general = True
        with torch.no_grad(), torch.autocast(plain[0].device.type, enabled=False):  # one state for all callers
            return self._run(*plain)


@cache
def _kernel(function: FunctionType, channels: int, height: int, width: int) -> _Kernel:
    return _Kernel(function)


def _call(function: Any, x: Tensor, *further: Any) -> Any:
    """The result of `function`, compiled for images like `x`."""
    return _kernel(function, *x.shape[1:])(x, *further)


def channels_last(tensor: Tensor) -> Tensor:
    """`tensor` in the one memory layout that kernels are made for."""
    return tensor.contiguous(memory_format=torch.channels_last)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> Any:
        back, slope_hidden, slope_mean = _call(_backward, x, mean, rstd, weight, bias, grad)
        ctx.save_for_backward(x, mean, rstd, weight, bias, grad, slope_hidden, slope_mean)
        pixels = x.shape[2] * x.shape[3]
        return back, slope_hidden.sum((0, 2, 3)) * pixels, slope_mean.sum((0, 2, 3)) * pixels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor, up_weight: Tensor, up_bias: Tensor) -> Any:
        to_x, to_weight, to_grad = _call(_double, *ctx.saved_tensors, channels_last(up), up_weight, up_bias)
        return to_x, None, None, to_weight.sum((0, 2, 3)), None, to_grad


class FusedNormActPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, rstd = _call(_forward, x, weight, bias, eps)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        pooled: Tensor = y
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *_Backward.apply(*ctx.saved_tensors, channels_last(grad)), None
