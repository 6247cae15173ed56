"""Real batches, strategies and initialisations: who is drawn, and with what weight."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fairdd_cli.artifacts import BiasedDataset, MemoryImages, Split
from fairdd_cli.decodings import Codec, cut_tiles, join_tiles, load_decoding, parse_decoding
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import STRATEGIES, class_means, concatenate, find_strategy
from fairdd_cli.matching.initialisation import INITS, initialise
from fairdd_cli.matching.sampling import SAMPLINGS, balanced, proportional
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.runtime import RESIDENCIES, ImageStore, Processes, Streams, open_runtime


def tiles(dataset: BiasedDataset, factor: int) -> Codec:
    return Codec(load_decoding(parse_decoding("tiles")), dataset.shape, factor, {})


def draw(name: str, dataset: BiasedDataset, label: int, size: int, seed: int = 0) -> np.ndarray:
    return SAMPLINGS[name](dataset.train, label, size, Streams(seed).numpy("test"))


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_batch_holds_sorted_images_of_its_class_only(toy: BiasedDataset, name: str) -> None:
    for label in range(toy.classes):
        for seed in range(20):
            drawn = draw(name, toy, label, 8, seed)
            assert set(toy.train.labels[drawn]) == {label}
            assert (np.diff(toy.train.protected[drawn]) >= 0).all()


def test_proportional_draws_without_replacement_and_every_image_as_often(toy: BiasedDataset) -> None:
    counts = np.zeros(len(toy.train))
    for seed in range(3000):
        drawn = draw("proportional", toy, 0, 7, seed)
        assert len(set(drawn)) == 7
        counts[drawn] += 1
    expected = 3000 * 7 / 14  # class 0 has 14 images
    assert np.abs(counts[:14] / expected - 1).max() < 0.1
    assert len(draw("proportional", toy, 0, 256)) == 14


def test_balanced_draws_the_same_number_from_every_cell_that_is_there(toy: BiasedDataset) -> None:
    for size, share in ((3, 1), (6, 2), (8, 2), (12, 4)):
        drawn = draw("balanced", toy, 0, size)
        assert list(np.bincount(toy.train.protected[drawn], minlength=4)) == [share, share, 0, share]
    assert len(set(draw("balanced", toy, 2, 8))) == 8  # every cell is large enough: nothing twice


def test_drawing_needs_no_memory_that_grows_with_the_class() -> None:
    def peak(images: int) -> int:
        """Bytes that drawing a batch takes at most; what goes through a whole class would take 8 an image."""
        labels = np.zeros(images, np.int64)
        split = Split.sorted_by_cell(MemoryImages(np.empty((0, 1, 1, 1), np.uint8)), labels, labels, 1, 1)
        generator = Streams(0).numpy("test")
        tracemalloc.start()
        try:
            proportional(split, 0, 256, generator)
            balanced(split, 0, 256, generator)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(3_000_000) < 200_000


def test_the_weights_of_every_target_sum_to_one() -> None:
    protected = np.array([0, 0, 0, 0, 2, 2, 5])
    for strategy in map(find_strategy, STRATEGIES.names()):
        weights = strategy.assign_targets(protected)
        sums = np.bincount(weights.target, weights.weight, weights.num_targets)
        np.testing.assert_allclose(sums, 1, rtol=1e-6)
    assert find_strategy("vanilla").assign_targets(protected).num_targets == 1
    assert find_strategy("fairdd").assign_targets(protected).num_targets == 3
    np.testing.assert_allclose(
        find_strategy("barycenter").assign_targets(protected).weight, [1 / 12] * 4 + [1 / 6] * 2 + [1 / 3]
    )


def test_targets_of_classes_are_concatenated_and_cut() -> None:
    parts = [
        find_strategy("fairdd").assign_targets(np.array([0, 0, 1])),
        find_strategy("vanilla").assign_targets(np.array([0, 1])),
    ]
    weights = concatenate(parts)
    assert list(weights.target) == [0, 0, 1, 2, 2]
    assert list(weights[1:4].segments()) == [(0, slice(0, 1)), (1, slice(1, 2)), (2, slice(2, 3))]
    assert list(class_means(2, 2).target) == [0, 0, 1, 1]


@pytest.mark.parametrize("residency", [name for name in RESIDENCIES if name != "device"])
def test_a_store_gives_normalised_images_wherever_they_are(toy: BiasedDataset, residency: str) -> None:
    store = ImageStore(toy.train.images, toy.mean, toy.std, open_runtime("cpu"), residency)
    indices = np.array([5, 0, 30, 5])
    expected = (toy.train.images.all()[indices] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(store.take(indices).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_initial_images_are_what_was_asked_for(toy: BiasedDataset) -> None:
    store = ImageStore(toy.train.images, toy.mean, toy.std, open_runtime("cpu"), "memory")
    everything = store.take(np.arange(len(toy.train))).flatten(1)

    def look(indices: np.ndarray) -> Tensor:
        return store.take(indices).flatten(1)

    for init in INITS:
        start = (init, toy.train, store, toy.classes, 4, tiles(toy, 1), Streams(0), look)
        images, groups = initialise(*start, by_cell=False)
        assert images.shape == (12, 3, 8, 8)
        if init == "noise":
            assert abs(float(images.mean())) < 0.1
            continue
        source = [int((everything == image).all(dim=1).nonzero()[0]) for image in images.flatten(1)]
        assert list(toy.train.labels[source]) == [0] * 4 + [1] * 4 + [2] * 4
        assert len(set(source)) == 12
        assert groups.tolist() == list(toy.train.protected[source])
        if init == "balanced":
            assert list(np.bincount(toy.train.protected[source[8:]], minlength=4)) == [1, 1, 1, 1]
            assert sorted(np.bincount(toy.train.protected[source[:4]], minlength=4)) == [0, 1, 1, 2]


def test_balanced_images_come_from_anywhere_in_a_cell() -> None:
    count = np.array([[100, 100, 100]])
    labels, protected = np.zeros(300, np.int64), np.repeat(np.arange(3), 100)
    split = Split.sorted_by_cell(MemoryImages(np.zeros((300, 1, 2, 2), np.uint8)), labels, protected, *count.shape)
    drawn = [INITS["balanced"](split, 0, 4, Streams(seed).numpy("init")) for seed in range(500)]
    assert abs(np.concatenate(drawn).mean() % 100 - 49.5) < 3  # four standard errors


def test_more_images_than_a_class_has_are_refused(toy: BiasedDataset) -> None:
    store = ImageStore(toy.train.images, toy.mean, toy.std, open_runtime("cpu"), "memory")
    with pytest.raises(UsageError, match="class 0, which has 14"):
        initialise("real", toy.train, store, toy.classes, 15, tiles(toy, 1), Streams(0), len, by_cell=False)


@pytest.mark.parametrize(("size", "factor"), [((8, 8), 2), ((9, 12), 3), ((32, 32), 2), ((7, 7), 2)])
def test_multi_formation_cuts_tiles_and_enlarges_each(size: tuple[int, int], factor: int) -> None:
    images = torch.randn(3, 2, *size, generator=Streams(0).torch("images"))
    rows, cols = size[0] // factor, size[1] // factor
    expected = []
    for image in images:
        for top in range(factor):
            for left in range(factor):
                tile = image[None, :, top * rows : (top + 1) * rows, left * cols : (left + 1) * cols]
                expected.append(functional.interpolate(tile, size=size, mode="bilinear", align_corners=False)[0])
    torch.testing.assert_close(cut_tiles(images, factor), torch.stack(expected))


def test_encoding_puts_each_image_into_its_tile() -> None:
    flat = torch.arange(8.0)[:, None, None, None].expand(8, 3, 8, 8)
    decoded = cut_tiles(join_tiles(flat, 2), 2)
    assert join_tiles(flat, 2).shape == (2, 3, 8, 8)
    torch.testing.assert_close(decoded, flat.contiguous())


def test_a_synthetic_set_gives_the_training_images_of_consecutive_classes(toy: BiasedDataset) -> None:
    store = ImageStore(toy.train.images, toy.mean, toy.std, open_runtime("cpu"), "memory")
    start = torch.randn(6, 3, 8, 8, generator=Streams(0).torch("images"))
    synthetic = SyntheticImages(
        start, torch.zeros(24, dtype=torch.int64), 3, tiles(toy, 2), store, Streams(0), Processes()
    )
    images, labels = synthetic.decoded_images(slice(1, 3))
    assert images.shape == (16, 3, 8, 8)
    assert labels.tolist() == [1] * 8 + [2] * 8
    torch.testing.assert_close(images, cut_tiles(synthetic.images[2:], 2))
