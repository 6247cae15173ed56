"""Every classification network of torchvision as one of ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Fairdd, write_toy
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import StochasticDepth

from fairdd_cli.artifacts import read_evaluation
from fairdd_cli.errors import UsageError
from fairdd_cli.networks import Classifier, freeze_batch_norm, parse_network, torchvision_networks

IMAGES, CLASSES = 2, 5
REFUSED = {"squeezenet1_0", "squeezenet1_1"}
FAMILIES = ["resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_x_400mf", "vit_b_32"]


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def regnets_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """RegNet computes its widths with tensors, which need values whatever the network is built on."""
    cls = models.regnet.BlockParams
    plain: Callable[..., Any] = cls.from_init_params

    def on_the_host(**options: Any) -> Any:
        with torch.device("cpu"):
            return plain(**options)

    monkeypatch.setattr(cls, "from_init_params", on_the_host)


def test_every_network_is_on_offer_but_those_without_a_linear_classifier() -> None:
    offered = {text.partition(":")[2] for text in torchvision_networks()}
    assert offered | REFUSED == set(models.list_models(module=models))
    for name in REFUSED:
        with pytest.raises(UsageError, match="classifies by a convolution"):
            parse_network(f"torchvision:{name}")


@pytest.mark.slow
def test_list_names_them(fairdd: Fairdd) -> None:
    assert "torchvision:NAME" in fairdd("list", "networks").stdout
    for name in ("torchvision", "torchvision:NAME"):
        entry = json.loads(fairdd("list", "networks", name, "-f", "json").stdout)
        assert entry["networks"] == torchvision_networks()
    assert "torchvision:resnet50" in fairdd("list", "networks", "torchvision:resnet50").stdout
    done = fairdd("list", "networks", "torchvision:resnet81", check=False)
    assert (done.returncode, "did you mean 'resnet18'" in done.stderr) == (2, True)


@pytest.mark.parametrize("text", torchvision_networks())
@pytest.mark.usefixtures("regnets_on_meta")
def test_every_network_embeds_small_images(text: str) -> None:
    with torch.device("meta"):
        network = parse_network(text).build((3, 32, 32), CLASSES)
        rows = []
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(lambda _, inputs, output: rows.append(len(inputs[0])))
        embedded = network.embed(torch.zeros(IMAGES, 3, 32, 32))
        logits = network.classifier(embedded)
    assert embedded.ndim == 2
    assert logits.shape == (IMAGES, CLASSES)
    assert set(rows) == {IMAGES} or not network.rows_are_images
    layers = list(network.modules())
    assert not any(getattr(layer, "inplace", False) for layer in layers)
    assert not any(layer.p for layer in layers if isinstance(layer, nn.Dropout | StochasticDepth))


def build(name: str, shape: tuple[int, int, int] = (3, 32, 32)) -> Classifier:
    network = parse_network(f"torchvision:{name}").build(shape, CLASSES)
    assert isinstance(network, Classifier)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_can_be_matched(name: str) -> None:
    network = build(name)
    images = torch.randn(IMAGES, 3, 32, 32, requires_grad=True)
    freeze_batch_norm(network, images)
    loss = nn.functional.cross_entropy(network(images), torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(torch.stack([each.square().sum() for each in gradients]).sum(), images)
    assert second.isfinite().all()
    assert second.abs().max() > 0


def test_the_classifier_is_the_last_linear_layer_of_the_same_network() -> None:
    torch.manual_seed(1)
    network = build("resnet18", (3, 64, 64)).eval()
    torch.manual_seed(1)
    plain = models.resnet18(num_classes=CLASSES).eval()
    images = torch.randn(IMAGES, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain(images))
    assert network.classifier.weight.shape == plain.fc.weight.shape


def test_training_draws_nothing() -> None:
    network = build("efficientnet_b0")  # dropout and stochastic depth
    images = torch.randn(IMAGES, 3, 32, 32)
    state = torch.random.get_rng_state()
    with torch.no_grad():
        outputs: list[Tensor] = [network.train()(images) for _ in range(2)]
    assert torch.equal(*outputs)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet81", (3, 32, 32), "unknown torchvision network 'resnet81': did you mean 'resnet18'?"),
        ("", (3, 32, 32), "unknown torchvision network ''"),
        ("resnet18", (4, 32, 32), "takes images of 1 or 3 channels; these have 4"),
        ("vit_b_16", (3, 32, 48), "needs square images; these are 32x48"),
        ("maxvit_t", (3, 32, 48), "needs square images; these are 32x48"),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_the_reason(
    name: str, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        build(name, shape)
    assert message in str(raised.value)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 24, 40), (3, 100, 70)])
def test_images_of_any_size_are_taken(shape: tuple[int, int, int]) -> None:
    network = build("mobilenet_v3_small", shape).eval()
    assert network(torch.randn(IMAGES, *shape)).shape == (IMAGES, CLASSES)


def test_one_call_evaluates_ours_and_theirs(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    words = ["--network", "mlp", "--network", "torchvision:shufflenet_v2_x0_5", "--epochs", 1, "--seeds", 1]
    fairdd("evaluate", "toy.h5", *words, "-o", "out.json")
    found = read_evaluation(str(tmp_path / "out.json"))
    assert list(found.confusion) == ["mlp", "torchvision:shufflenet_v2_x0_5"]
