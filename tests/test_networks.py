"""Every network on every kind of image, and what matching asks of all of them."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import textbook
import torch
from torch import Tensor, nn

from fairdd_cli.errors import UsageError
from fairdd_cli.networks import NETWORKS, NetworkSpec, parse_network
from fairdd_cli.networks._base import (
    ACTIVATIONS,
    NORMS,
    POOLINGS,
    Classifier,
    freeze_batch_norm,
    has_batch_norm,
)

GOLDEN = Path(__file__).parent / "golden"
CLASSES = 4
SIZES = [(28, 28), (32, 32), (64, 64), (24, 40)]

PER_SAMPLE = ["convnet:width=16", "mlp", "lenet", "alexnet", "vgg11:width=8", "resnet18:width=8", "vit:width=32"]
PER_BATCH = ["convnet:width=16,norm=batch", "vgg11:width=8,norm=batch", "resnet18:width=8,norm=batch"]

# The embedding's length by the image's height and width; poolings round up except in convnet and lenet.
EMBEDDINGS = {
    "convnet": lambda height, side: 16 * (height // 8) * (side // 8),
    "mlp": lambda height, side: 128,
    "lenet": lambda height, side: 84,
    "alexnet": lambda height, side: 192 * -(-height // 8) * -(-side // 8),
    "vgg11": lambda height, side: 64 * -(-height // 32) * -(-side // 32),
    "resnet18": lambda height, side: 64,
    "vit": lambda height, side: 32,
}


def test_a_network_has_one_spelling() -> None:
    for text in ("convnet:depth=2,width=8", "convnet:width=8,depth=2", "convnet:norm=instance,width=8,depth=2"):
        assert str(parse_network(text)) == "convnet:width=8,depth=2"
    assert str(parse_network("convnet:width=128")) == "convnet"


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


def build(text: str, shape: tuple[int, int, int] = (3, 32, 32)) -> Classifier:
    network = parse_network(text).build(shape, CLASSES)
    assert isinstance(network, Classifier)
    return network


def test_every_network_is_tested() -> None:
    assert {parse_network(text).name for text in PER_SAMPLE} == set(NETWORKS.names()) == set(EMBEDDINGS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("text", PER_SAMPLE + PER_BATCH)
def test_gradients_can_be_matched(text: str, size: tuple[int, int], channels: int) -> None:
    network = build(text, (channels, *size))
    images = torch.randn(2, channels, *size).to(memory_format=torch.channels_last).requires_grad_()
    freeze_batch_norm(network, images)
    logits = network(images)
    assert logits.shape == (2, CLASSES)
    assert network.embed(images).shape == (2, EMBEDDINGS[text.partition(":")[0]](*size))

    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    assert all(gradient.isfinite().all() for gradient in gradients)
    (second,) = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), images)
    assert second.shape == images.shape
    assert second.isfinite().all()
    assert second.abs().max() > 0


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (8, 70)], ids=str)
@pytest.mark.parametrize("text", PER_SAMPLE)
def test_small_images_still_reach_the_embedding(text: str, size: tuple[int, int]) -> None:
    images = torch.randn(8, 2, *size)
    embedded = build(text, (2, *size)).embed(images)
    assert embedded.std(0).mean() > 1e-4  # normalising a single pixel would leave 1e-8


@pytest.mark.parametrize("text", ["convnet", "alexnet", "vgg11", "resnet18"])
def test_images_too_small_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}' .* at least 8 pixels a side; these are 7x32"):
        build(text, (3, 7, 32))


@pytest.mark.parametrize("text", PER_SAMPLE)
def test_samples_do_not_mix(text: str) -> None:
    network = build(text)
    images = torch.randn(4, 3, 32, 32)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert not has_batch_norm(network)


@pytest.mark.parametrize("text", PER_BATCH)
def test_frozen_statistics_stop_samples_from_mixing(text: str) -> None:
    network = build(text)
    real, images = torch.randn(32, 3, 32, 32) * 2 + 1, torch.randn(4, 3, 32, 32)
    assert has_batch_norm(network)
    assert not torch.allclose(network(images)[:2], network(images[:2]), rtol=1e-3)

    freeze_batch_norm(network, real)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["instance", "layer", "group"])
def test_maps_are_normalised_in_full_precision(kind: str) -> None:
    norm, maps = NORMS[kind](16), (torch.randn(4, 16, 8, 8) + 3).bfloat16()
    assert isinstance(norm, nn.GroupNorm)
    expected = nn.functional.group_norm(maps.double(), norm.num_groups).float()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(norm(maps), expected, rtol=1e-4, atol=1e-4)


def images_of_calls(network: Classifier, images: Tensor) -> list[list[int]]:
    """For each convolution how many images each of its calls has."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    calls: dict[nn.Module, list[int]] = {layer: [] for layer in layers}
    handles = [layer.register_forward_hook(lambda own, given, _: calls[own].append(len(given[0]))) for layer in layers]
    network(images)
    for handle in handles:
        handle.remove()
    return list(calls.values())


def test_blocks_take_few_images_at_a_time_where_nothing_is_kept() -> None:
    network, images = build("convnet:width=16"), torch.randn(12, 3, 32, 32)
    with torch.no_grad():
        together = network(images)
        assert images_of_calls(network, images) == [[12], [12], [12]]
        network.features.most_values = 5 * 16 * 32 * 32  # type: ignore[union-attr, assignment]
        assert images_of_calls(network, images) == [[4, 4, 4], [12], [12]]
        torch.testing.assert_close(network(images), together, rtol=1e-5, atol=1e-6)
        network.features.most_values = 1  # type: ignore[union-attr, assignment]
        assert images_of_calls(network, images) == [[1] * 12] * 3
    assert images_of_calls(network, images) == [[12], [12], [12]]  # each layer once, with all that matching needs


def test_blocks_keep_the_images_of_a_batch_together_that_is_normalised_as_one() -> None:
    network, other = (build("convnet:width=16,norm=batch") for _ in range(2))
    other.load_state_dict(network.state_dict())
    other.features.most_values = 1  # type: ignore[union-attr, assignment]
    images = torch.randn(8, 3, 32, 32)
    for each in (network, other):
        freeze_batch_norm(each, images)
    assert images_of_calls(other, images) == [[8], [8], [8]]
    torch.testing.assert_close(other(images), network(images))


def test_frozen_statistics_are_those_of_the_images() -> None:
    network = build("resnet18:width=8,norm=batch")
    assert isinstance(network.features, nn.Sequential)
    stem, norm = network.features[:2]
    freeze_batch_norm(network, torch.randn(8, 3, 32, 32))
    images = torch.randn(16, 3, 32, 32) * 2 + 1
    freeze_batch_norm(network, images)
    maps = stem(images)
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)))


@pytest.mark.parametrize("text", PER_SAMPLE + PER_BATCH)
def test_weight_matrices_are_used_once_and_their_outputs_kept(text: str) -> None:
    network = build(text)
    calls: Counter[nn.Module] = Counter()
    outputs: list[tuple[Tensor, int]] = []

    def record(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] += 1
        outputs.append((output, output._version))

    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer in layers:
        layer.register_forward_hook(record)
    network(torch.randn(2, 3, 32, 32))
    assert calls == Counter(layers)
    assert all(output._version == version for output, version in outputs)

    matrices = {id(parameter) for parameter in network.parameters() if parameter.ndim > 1}
    assert matrices == {id(layer.weight) for layer in layers}


def layer(inputs: int, outputs: int, kernel: int = 1, bias: bool = True) -> int:
    """The parameters of a convolution, or of a linear layer (kernel 1)."""
    return inputs * outputs * kernel**2 + outputs * bias


def residual_stage(inputs: int, width: int, shortcut: bool = True) -> int:
    """Four bias-free 3x3 convolutions and perhaps a shortcut's 1x1, each followed by a norm's scale and shift."""
    convolutions = layer(inputs, width, 3, False) + 3 * layer(width, width, 3, False)
    return convolutions + 4 * 2 * width + shortcut * (layer(inputs, width, 1, False) + 2 * width)


@pytest.mark.parametrize(
    ("text", "derived", "total"),
    [
        ("convnet", layer(3, 128, 3) + 2 * layer(128, 128, 3) + 3 * 2 * 128 + layer(2048, 10), 320_010),
        ("mlp", layer(3072, 128) + layer(128, 128) + layer(128, 10), 411_146),
        ("lenet", layer(3, 6, 5) + layer(6, 16, 5) + layer(400, 120) + layer(120, 84) + layer(84, 10), 62_006),
        (
            "alexnet",
            layer(3, 128, 5)
            + layer(128, 192, 5)
            + layer(192, 256, 3)
            + layer(256, 192, 3)
            + layer(192, 192, 3)
            + layer(192 * 16, 10),
            1_872_202,
        ),
        (
            "vgg11",
            layer(3, 64, 3)
            + layer(64, 128, 3)
            + layer(128, 256, 3)
            + layer(256, 256, 3)
            + layer(256, 512, 3)
            + 3 * layer(512, 512, 3)
            + 2 * (64 + 128 + 2 * 256 + 4 * 512)
            + layer(512, 10),
            9_231_114,
        ),
        (
            "resnet18",
            layer(3, 64, 3, False)
            + 2 * 64
            + residual_stage(64, 64, False)
            + residual_stage(64, 128)
            + residual_stage(128, 256)
            + residual_stage(256, 512)
            + layer(512, 10),
            11_173_962,
        ),
        (
            "vit",
            layer(3, 128, 4)
            + 2 * (layer(128, 384) + layer(128, 128) + layer(128, 512) + layer(512, 128) + 2 * 2 * 128)
            + 2 * 128
            + layer(128, 10),
            404_362,
        ),
    ],
)
def test_parameter_counts(text: str, derived: int, total: int) -> None:
    network = parse_network(text).build((3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == derived == total


@pytest.mark.parametrize(("norm", "activation", "pooling"), list(product(NORMS, ACTIVATIONS, POOLINGS)))
def test_convnet_variants(norm: str, activation: str, pooling: str) -> None:
    network = build(f"convnet:width=6,depth=2,norm={norm},activation={activation},pooling={pooling}", (3, 16, 12))
    images = torch.randn(3, 3, 16, 12, requires_grad=True)
    side = 6 * 16 * 12 if pooling == "none" else 6 * 4 * 3
    assert network.embed(images).shape == (3, side)
    assert has_batch_norm(network) == (norm == "batch")
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_depth(depth: int) -> None:
    for text, layers in [(f"convnet:width=4,depth={depth}", depth), (f"vit:width=8,depth={depth}", 4 * depth)]:
        convolutions_and_linears = [m for m in build(text).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(convolutions_and_linears) == layers + 1 + text.startswith("vit")


def test_convnet_agrees_with_the_authors_code() -> None:
    with np.load(GOLDEN / "matching.npz") as golden:
        weights = textbook.authors_weights(golden)
        images, logits = torch.from_numpy(golden["real_images"]), torch.from_numpy(golden["logits_real"])
    network = build("convnet:width=8,depth=3").double()
    network.load_state_dict(weights)
    with torch.no_grad():
        found = network(images.flatten(0, 1).double())
    torch.testing.assert_close(found, logits.flatten(0, 1), rtol=1e-5, atol=1e-5)


def test_vit_tells_places_apart() -> None:
    network = build("vit:width=32")
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(network(images), network(images.roll(8, dims=3)), rtol=1e-3)


def test_specification() -> None:
    assert parse_network("convnet") == NetworkSpec("convnet")
    spec = parse_network("convnet:width=32,depth=2,norm=none")
    assert spec == NetworkSpec("convnet", {"width": 32, "depth": 2, "norm": "none"})
    assert parse_network(str(spec)) == spec
    assert build(str(spec)).classifier.in_features == 32 * 8 * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("convnext", "unknown network 'convnext': did you mean 'convnet'?"),
        ("convnet:widht=32", "unknown option of network 'convnet' 'widht': did you mean 'width'?"),
        ("lenet:width=3", "network 'lenet' takes no options; found 'width=3'"),
        ("convnet:width=wide", "network 'convnet': 'width=wide' should read width=NUMBER"),
        ("convnet:width=1.5", "'width=1.5' should read width=NUMBER"),
        ("convnet:width", "'width' should read width=NUMBER"),
        ("resnet18:norm=", "'norm=' should read norm=WORD"),
    ],
)
def test_bad_specifications_are_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_network(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18:norm=foo", "unknown normalisation 'foo' (known: batch, group, instance, layer, none)"),
        ("resnet18:norm=instanse", "unknown normalisation 'instanse': did you mean 'instance'?"),
        ("vgg11:norm=bach", "unknown normalisation 'bach': did you mean 'batch'?"),
        ("convnet:activation=rely", "unknown activation 'rely': did you mean 'relu'?"),
        ("convnet:pooling=averge", "unknown pooling 'averge': did you mean 'average'?"),
        ("convnet:depth=9", "network 'convnet' needs depth 1…8; found depth=9"),
        ("mlp:width=0", "network 'mlp' needs width 1…4096; found width=0"),
        ("vit:depth=-1", "network 'vit' needs depth 1…8; found depth=-1"),
        ("vit:width=30", "network 'vit' needs a width that its 4 heads divide; found width=30"),
    ],
)
def test_bad_values_are_explained(text: str, message: str) -> None:
    spec = parse_network(text)
    with pytest.raises(UsageError) as raised:
        spec.build((3, 32, 32), CLASSES)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
