"""Training against a textbook's SGD, and what is counted."""

from dataclasses import replace

import numpy as np
import pytest
import textbook
import torch

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.errors import DivergedError, UsageError
from fairdd_cli.evaluate import run_evaluation, whole_data
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import ImageStore, NullProgress, Runtime, Streams, open_runtime
from fairdd_cli.training import (
    TensorImages,
    TrainingConfig,
    even_shares,
    fit,
    parameter_vector,
    predict,
    systematic_resample,
)
from fairdd_cli.training.loop import joint_counts

CPU = torch.device("cpu")


@pytest.mark.parametrize("micro_batch", [0, 5, 32])
def test_training_agrees_with_a_textbook_sgd(micro_batch: int) -> None:
    streams = Streams(0)
    images = torch.randn(12, 3, 8, 8, generator=streams.torch("images"))
    labels = torch.arange(12) % 3
    networks = []
    for _ in range(2):
        with streams.fork_rng("network"):
            networks.append(parse_network("convnet:width=4,depth=2").build((3, 8, 8), 3))
    training = TrainingConfig(epochs=5, augmentation="")
    runtime = Runtime(CPU, micro_batch=micro_batch)
    fit(networks[0], TensorImages(images), labels, training, runtime, streams, (0,), NullProgress())
    textbook.train(networks[1], images, labels, 5, training.to_json())
    for mine, expected in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_a_network_that_diverges_is_an_error_and_no_fair_result(toy: BiasedDataset) -> None:
    data = whole_data(toy, open_runtime("cpu"))
    data = replace(data, training=replace(data.training, epochs=3, learning_rate=1e20))
    network = parse_network("convnet:width=4,depth=2,norm=none")
    with pytest.raises(DivergedError, match="number 1 of 2 diverged"):
        run_evaluation(data, toy, [network], 2, 0, open_runtime("cpu"), NullProgress())


def test_batch_normalisation_sees_its_whole_batch_whatever_the_micro_batch() -> None:
    streams, results = Streams(0), []
    images = torch.randn(12, 3, 8, 8, generator=streams.torch("images"))
    for micro_batch in (0, 5):
        with streams.fork_rng("network"):
            network = parse_network("convnet:width=4,depth=2,norm=batch").build((3, 8, 8), 3)
        runtime = Runtime(CPU, micro_batch=micro_batch)
        fit(
            network,
            TensorImages(images),
            torch.arange(12) % 3,
            TrainingConfig(epochs=2),
            runtime,
            streams,
            (0,),
            NullProgress(),
        )
        results.append(torch.cat([parameter.flatten() for parameter in network.parameters()]))
    torch.testing.assert_close(results[0], results[1])


def test_images_are_drawn_for_an_epoch_as_often_as_they_weigh() -> None:
    """An oracle without weights: the images that are drawn in each epoch, in a set of their own."""
    images, labels = torch.randn(6, 3, 8, 8, generator=Streams(0).torch("images")), torch.arange(6) % 3
    weights, training = np.array([1.0, 1.0, 4.0, 0.0, 4.0, 2.0]), TrainingConfig(epochs=1, augmentation="")
    drawn = systematic_resample(weights, Streams(0).numpy("train/resample", 0, 0))
    trained = []
    for shown, targets, weighing in ((images, labels, weights), (images[drawn], labels[drawn], None)):
        with Streams(0).fork_rng("network"):
            network = parse_network("convnet:width=4,depth=2").build((3, 8, 8), 3)
        given = (training, Runtime(CPU), Streams(0), (0,), NullProgress())
        fit(network, TensorImages(shown), targets, *given, weights=weighing)
        trained.append(parameter_vector(network))
    torch.testing.assert_close(*trained)


def test_even_shares_weigh_the_groups_of_a_class_alike(toy: BiasedDataset) -> None:
    shares = even_shares(toy.train)
    assert shares.sum() == pytest.approx(1)
    for label, count in enumerate(toy.train.count.sum(axis=1)):
        of_class = toy.train.labels == label
        present = np.unique(toy.train.protected[of_class])
        for group in present:
            weight = shares[of_class & (toy.train.protected == group)].sum()
            assert weight == pytest.approx(count / len(toy.train) / len(present))


def test_the_learning_rate_drops_where_the_protocol_says() -> None:
    assert [TrainingConfig(epochs=4).learning_rate_at(epoch) for epoch in range(4)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.001]
    )
    twice = TrainingConfig(epochs=6, lr_milestones=(2 / 3, 5 / 6), lr_gamma=0.2)
    assert [twice.learning_rate_at(epoch) for epoch in range(6)] == pytest.approx([0.01] * 4 + [0.002, 0.0004])


def test_a_protocol_survives_its_file_and_a_foreign_one_is_refused() -> None:
    training = TrainingConfig(epochs=7, augmentation="color_flip", lr_milestones=(0.3, 0.6))
    assert TrainingConfig.from_json(training.to_json(), "file") == training
    for change in ({"epochs": 0}, {"rate": 1}, {"learning_rate": float("nan")}, {"augmentation": "spin"}, {"drops": 3}):
        with pytest.raises(UsageError):
            TrainingConfig.from_json({**training.to_json(), **change}, "file")


def test_confusion_counts_every_test_image_in_its_cell(toy: BiasedDataset) -> None:
    runtime = open_runtime("cpu")
    store = ImageStore(toy.test.images, toy.mean, toy.std, runtime, "memory")
    with Streams(0).fork_rng("network"):
        network = parse_network("convnet:width=4,depth=2").build(toy.shape, toy.classes)
    found = predict(network, store, len(toy.test), runtime, NullProgress())
    table = joint_counts((toy.test.labels, toy.test.protected, found), (3, 4, 3))
    expected = np.zeros_like(table)
    predicted = network(store.take(np.arange(len(toy.test)))).argmax(dim=1).numpy()
    for label, protected, prediction in zip(toy.test.labels, toy.test.protected, predicted, strict=True):
        expected[label, protected, prediction] += 1
    np.testing.assert_array_equal(table, expected)
    assert (table.sum(axis=2) == 2).all()
