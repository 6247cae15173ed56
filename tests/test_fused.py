"""The compiled tail of a block against the plain layers, forward, backward and twice backward; when it is used."""

import numpy as np
import pytest
import torch
from conftest import resolved
from tiny import TINY
from torch import Tensor, nn

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.distill import run_distillation
from fairdd_cli.errors import UsageError
from fairdd_cli.networks import fusible_values, parse_network
from fairdd_cli.networks._base import NORMS
from fairdd_cli.networks._blocks import NormActPool
from fairdd_cli.runtime import COMPILE_THRESHOLD, COMPILES, NullProgress, Runtime, compiler_works, open_runtime

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not compiler_works(CPU), reason="torch finds no C++ compiler that works")


def tail(channels: int, double: bool = False) -> NormActPool:
    made = NormActPool(NORMS["instance"](channels), nn.ReLU(), nn.AvgPool2d(2))
    nn.init.normal_(made[0].weight)
    nn.init.normal_(made[0].bias)
    return made.double() if double else made


def everything(layer: NormActPool, images: Tensor, double: bool) -> list[Tensor]:
    """The output, all gradients of a function of it, and all gradients of a function of those."""
    leaves = [images.detach().clone().requires_grad_(), *layer.parameters()]
    output = layer(leaves[0])
    weights = torch.sin(torch.arange(output.numel(), dtype=output.dtype)).view(output.shape).requires_grad_()
    slopes = torch.autograd.grad((output * weights).sum(), leaves, create_graph=double)
    if not double:
        return [output, *slopes]
    waves = [torch.cos(torch.arange(slope.numel(), dtype=slope.dtype)).view(slope.shape) for slope in slopes]
    again = torch.stack([(slope * wave).sum() for slope, wave in zip(slopes, waves, strict=True)]).sum()
    return [output, *slopes, *torch.autograd.grad(again, [leaves[0], leaves[1], weights])]


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (5, 3, 7, 10), (1, 4, 8, 8)], ids=str)
@pytest.mark.parametrize("double", [False, True], ids=["once", "twice"])
def test_kernels_equal_the_layers(shape: tuple[int, ...], double: bool) -> None:
    layer = tail(shape[1], double=True)
    images = torch.randn(shape, dtype=torch.float64)
    plain = everything(layer, images, double)
    layer.fused = True
    for found, expected in zip(everything(layer, images, double), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@needs_compiler
def test_a_kernel_serves_any_number_of_images_in_any_layout() -> None:
    layer = tail(4)
    layer.fused = True
    for count in (7, 2, 5, 1):
        for layout in (torch.channels_last, torch.contiguous_format):
            images = torch.randn(count, 4, 8, 8).to(memory_format=layout)
            found = layer(images)
            layer.fused = False
            torch.testing.assert_close(found, layer(images))
            layer.fused = True


@needs_compiler
def test_half_precision_stays_near() -> None:
    layer, images = tail(4), torch.randn(3, 4, 8, 8)
    plain = layer(images)
    layer.fused = True
    half = layer(images.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, rtol=0.05, atol=0.05)


def test_what_there_are_kernels_for() -> None:
    sides = {"convnet": 8 * (256 + 64 + 16), "convnet:depth=1": 8 * 256, "convnet:norm=batch": 0, "mlp": 0}
    sides |= {"convnet:activation=swish": 0, "convnet:pooling=max": 0, "convnet:norm=none": 0}
    for text, values in sides.items():
        spec = parse_network(text if text == "mlp" else f"{text}{',' if ':' in text else ':'}width=8")
        assert fusible_values(spec.build((3, 16, 16), 2), (3, 16, 16)) == values, text


def test_short_runs_are_not_compiled_and_off_means_off() -> None:
    enough = COMPILE_THRESHOLD * torch.get_num_threads()
    runtime = open_runtime("cpu")
    assert "not compiled" in runtime.decide_compiling(enough / 2)
    assert not runtime.compiled
    assert "not compiled" in runtime.decide_compiling(0)
    off = open_runtime("cpu", compiles="off")
    off.decide_compiling(2 * enough)
    assert not off.compiled
    with pytest.raises(UsageError, match="auto, off, on"):
        open_runtime("cpu", compiles="always")
    assert COMPILES == ("auto", "on", "off")


@needs_compiler
def test_long_runs_are_compiled() -> None:
    runtime = open_runtime("cpu")
    assert runtime.decide_compiling(2 * COMPILE_THRESHOLD * torch.get_num_threads()).startswith("compiled")
    assert runtime.compiled


def test_without_a_compiler_a_run_goes_on_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairdd_cli.runtime.device.compiler_works", lambda device: False)
    runtime = open_runtime("cpu")
    assert "no C++ compiler" in runtime.decide_compiling(2 * COMPILE_THRESHOLD * torch.get_num_threads())
    assert not runtime.compiled
    with pytest.raises(UsageError, match=r"g\+\+"):
        open_runtime("cpu", compiles="on").decide_compiling(1)


@needs_compiler
@pytest.mark.parametrize("method", ["dm", "gm", "mtt"])
def test_a_compiled_run_is_the_plain_one_but_for_rounding(method: str, toy: BiasedDataset) -> None:
    plan = resolved(
        method,
        fairness="fairdd",
        ipc=2,
        iterations=2,
        network=parse_network("convnet:width=8,depth=2"),
        options=dict(TINY[method]),
    )
    plain = run_distillation(plan, toy, Runtime(CPU, micro_batch=32), NullProgress())
    compiled = run_distillation(plan, toy, Runtime(CPU, micro_batch=32, compiles="on"), NullProgress())
    assert not np.array_equal(plain.images, compiled.images)  # or else nothing was compiled
    np.testing.assert_allclose(compiled.images, plain.images, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(compiled.history.loss, plain.history.loss, rtol=1e-4)
