"""Decodings: what is stored against what is trained on, in themselves and through every command."""

import dataclasses
import json
import math
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Fairdd, resolved, write_toy
from mutants import sealed
from PIL import Image
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset, SyntheticSet, pixels, read_dataset, read_synthetic
from fairdd_cli.decodings import DECODINGS, Codec, ShownInGroups, cut_tiles, load_decoding, parse_decoding, stored_codec
from fairdd_cli.decodings.frequency import cosine_transform, inverse_cosine_transform
from fairdd_cli.distill import check_config, run_distillation
from fairdd_cli.errors import UsageError
from fairdd_cli.evaluate import synthetic_data
from fairdd_cli.loading import load, shown_images, training_images
from fairdd_cli.matching.sampling import sample_of_cells
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.reporting.cells import grid, visible
from fairdd_cli.runtime import ImageStore, NullProgress, Processes, Runtime, Streams, open_runtime
from fairdd_cli.training import Subset

RUNTIME = Runtime(torch.device("cpu"), micro_batch=32)
LEARNED = "group-maps:channels=1,kernel=3,offset=2,learn=0.5"
SPECIFICATIONS = ["tiles", "frequency:share=0.5", "group-maps", "group-maps:channels=1", LEARNED]
NETWORK = "convnet:width=4,depth=2"


def coloured(path: Path, groups: int = 3, per_cell: int = 20) -> tuple[BiasedDataset, np.ndarray, np.ndarray]:
    """Grey images, each coloured by its group: x = colour_g * grey + shade_g; with the colours and the shades."""
    write_toy(path, np.full((2, groups), per_cell), channels=3)
    grey = Streams(1).numpy("grey").integers(0, 120, (2 * groups * per_cell, 8, 8))
    # Of each class the groups show the same images, so that the mean images differ in nothing but colour.
    grey = grey[np.arange(len(grey)) % per_cell + np.arange(len(grey)) // (groups * per_cell) * per_cell]
    colour = np.array([[1, 0, 0.5], [0, 1, 1], [1, 1, 0.25], [0.5, 1, 0]])[:groups]
    shade = np.array([[0, 60, 0], [120, 0, 8], [4, 0, 100], [30, 0, 60]])[:groups]
    with h5py.File(path, "r+") as file:
        protected = file["train/protected"][:]
        images = grey[:, None] * colour[protected][:, :, None, None] + shade[protected][:, :, None, None]
        file["train/images"][:] = np.rint(images).astype(np.uint8)
        sealed(file)
    return read_dataset(str(path)), colour, shade


def store_of(dataset: BiasedDataset) -> ImageStore:
    return ImageStore(dataset.train.images, dataset.mean, dataset.std, open_runtime("cpu"), "memory")


def codec_for(dataset: BiasedDataset, text: str, factor: int = 1) -> Codec:
    decoding = load_decoding(parse_decoding(text))
    sample = partial(sample_of_cells, dataset.train, store_of(dataset), Streams(0))
    return Codec(decoding, dataset.shape, factor, decoding.fit(dataset.shape, dataset.train.count, sample))


def direct_cosines(image: np.ndarray) -> np.ndarray:
    """The orthonormal DCT-II of one channel, by its definition."""
    rows, cols = image.shape
    found = np.zeros(image.shape)
    for u in range(rows):
        for v in range(cols):
            wave = np.outer(
                np.cos(math.pi * (np.arange(rows) + 0.5) * u / rows),
                np.cos(math.pi * (np.arange(cols) + 0.5) * v / cols),
            )
            scale = math.sqrt((1 if u == 0 else 2) / rows) * math.sqrt((1 if v == 0 else 2) / cols)
            found[u, v] = scale * (image * wave).sum()
    return found


def test_the_cosine_transform_is_that_of_its_definition_and_can_be_undone() -> None:
    images = torch.randn(2, 2, 6, 9, generator=Streams(0).torch("images"))
    coefficients = cosine_transform(images)
    np.testing.assert_allclose(coefficients[1, 0].numpy(), direct_cosines(images[1, 0].numpy()), atol=1e-5)
    torch.testing.assert_close(inverse_cosine_transform(coefficients), images, rtol=1e-5, atol=1e-5)


def test_frequency_keeps_the_coefficients_that_vary_most(toy: BiasedDataset) -> None:
    codec = codec_for(toy, "frequency:share=0.25")
    cells = [
        store_of(toy).take(toy.train.start[cell] + np.arange(toy.train.count[cell]))
        for cell in np.ndindex(*toy.train.count.shape)
        if toy.train.count[cell]
    ]
    transformed = [cosine_transform(images).flatten(1).double() for images in cells]
    mean = torch.stack([each.mean(dim=0) for each in transformed]).mean(dim=0)
    square = torch.stack([each.square().mean(dim=0) for each in transformed]).mean(dim=0)
    variance = square - mean.square()
    kept = set(codec.tables["positions"].tolist())
    assert len(kept) == 3 * 8 * 8 // 4
    assert min(variance[list(kept)]) >= max(variance[list(set(range(192)) - kept)]) - 1e-4
    assert codec.decoding.per_class(10, toy.shape) == 40


def test_group_maps_find_the_colours_that_the_groups_have(tmp_path: Path) -> None:
    dataset, colour, _ = coloured(tmp_path / "data.h5")
    codec, store = codec_for(dataset, "group-maps:channels=1"), store_of(dataset)
    for base, other in ((0, 1), (1, 2), (2, 0)):
        here, there = (dataset.train.start[1, group] + np.arange(20) for group in (base, other))
        groups = torch.full((20,), base)
        stored = codec.encode(store.take(here), groups)
        torch.testing.assert_close(codec.show(codec.bases(stored), groups), store.take(here), rtol=0, atol=0.02)
        # The same grey images are there in the other group: showing the bases in it gives them.
        found = codec.show(codec.bases(stored), torch.full((20,), other))
        torch.testing.assert_close(found, store.take(there), rtol=0, atol=0.02)
    assert codec.tables["matrix"].shape == (3, 3, 1)
    directions = codec.tables["matrix"][:, :, 0] / codec.tables["matrix"][:, :, 0].norm(dim=1, keepdim=True)
    expected = torch.from_numpy(colour / np.linalg.norm(colour, axis=1, keepdims=True)).float()
    torch.testing.assert_close(directions * directions[0, 0].sign(), expected, rtol=0, atol=0.02)


def test_group_maps_do_without_the_cells_that_have_no_images(toy: BiasedDataset) -> None:
    assert (toy.train.count == 0).any()
    codec = codec_for(toy, "group-maps")
    assert all(table.isfinite().all() for table in codec.tables.values())


def test_maps_of_windows_and_places_are_convolutions_and_enlarged_offsets(tmp_path: Path) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    codec = codec_for(dataset, "group-maps:channels=2,kernel=3,offset=4")
    tables = {name: torch.randn(table.shape) for name, table in codec.tables.items()}
    bases = torch.randn(3, 2, 8, 8)
    found = codec.decoding.show(bases, torch.tensor([2, 0, 1]), tables)
    for image, base, group in zip(found, bases, (2, 0, 1), strict=True):
        weight, offset = tables["matrix"][group].reshape(3, 2, 3, 3), tables["offset"][group].reshape(1, 3, 4, 4)
        expected = F.conv2d(base[None], weight, padding=1) + F.interpolate(offset, (8, 8), mode="bilinear")
        torch.testing.assert_close(image, expected[0], rtol=1e-4, atol=1e-5)


def test_offsets_begin_with_what_colours_leave_of_the_mean_images(tmp_path: Path) -> None:
    coloured(tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5", "r+") as file:  # every group has a bright corner of its own
        images, protected = file["train/images"][:], file["train/protected"][:]
        images[protected == 0, :, :4, :4] = images[protected == 1, :, 4:, :4] = images[protected == 2, :, :4, 4:] = 255
        file["train/images"][:] = images
        sealed(file)
    dataset = read_dataset(str(tmp_path / "data.h5"))
    plain, fine = (codec_for(dataset, f"group-maps:channels=1{more}") for more in ("", ",offset=2"))
    torch.testing.assert_close(fine.tables["matrix"], plain.tables["matrix"])
    # The best base of a class, by least squares over all groups, and what is left then, in quarters of the image.
    start, count = dataset.train.start, dataset.train.count
    means = torch.stack(
        [
            torch.stack([store_of(dataset).take(start[y, g] + np.arange(count[y, g])).mean(dim=0) for g in range(3)])
            for y in range(2)
        ]
    )  # [classes, groups, C, H, W]
    matrix, offset = plain.tables["matrix"].flatten(), plain.tables["offset"][:, :, None, None]
    bases = torch.einsum("k,ykhw->yhw", matrix, (means - offset).flatten(1, 2)) / matrix.square().sum()
    shown = torch.einsum("k,yhw->ykhw", matrix, bases).reshape(means.shape) + offset
    left = (means - shown).mean(dim=0).reshape(3, 3, 2, 4, 2, 4).mean(dim=(3, 5))
    assert left.abs().max() > 0.1
    torch.testing.assert_close(fine.tables["offset"], (offset + left).flatten(1), rtol=1e-3, atol=1e-4)


def test_maps_that_are_learned_step_by_the_mean_gradient_of_their_pixels(tmp_path: Path) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    codec = codec_for(dataset, LEARNED)
    stored, target = torch.randn(6, 1, 8, 8), torch.randn(6, 3, 8, 8)
    none = torch.zeros(6, dtype=torch.int64)
    synthetic = SyntheticImages(stored, none, 2, codec, store_of(dataset), Streams(0), Processes())
    synthetic.configure_optimizer(0.1, 0.5)
    plain = {"images": stored, **codec.tables}
    momentum = {name: torch.zeros_like(tensor) for name, tensor in plain.items()}
    # Two images a group are shown in a step: 2 * 64 pixels, a quarter of them near each of the offset's four.
    rates = {"images": 0.1, "matrix": 0.1 * 0.5 / 128, "offset": 0.1 * 0.5 / 32}
    for key in range(3):
        images, _ = synthetic.decoded_images(slice(0, 2), key)
        synthetic.accumulate_gradients(synthetic.gradients((images - target).square().sum()))
        synthetic.optimizer_step()
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in plain.items()}
        groups = torch.cat([torch.from_numpy(synthetic._turns(label, range(3), (key,))) for label in (0, 1)])
        shown = codec.decoding.show(leaves["images"], groups, {name: leaves[name] for name in codec.tables})
        gradients = torch.autograd.grad((shown - target).square().sum(), list(leaves.values()))
        for name, gradient in zip(plain, gradients, strict=True):
            momentum[name] = 0.5 * momentum[name] + gradient
            plain[name] = plain[name] - rates[name] * momentum[name]
    found = {"images": synthetic.images.detach(), **synthetic.codec.tables}
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
        assert not torch.equal(tensor, {"images": stored, **codec.tables}[name])


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("text", SPECIFICATIONS)
def test_what_was_decoded_is_stored_as_it_was(tmp_path: Path, text: str, factor: int) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    codec = codec_for(dataset, text, factor)
    stored = torch.randn(3, *codec.stored_shape, generator=Streams(0).torch("stored"))
    groups = torch.arange(3 * factor**2) % 3
    decoded = codec.show(codec.bases(stored), groups if codec.num_groups else None)
    assert decoded.shape == (3 * factor**2, *dataset.shape)
    if factor == 1:
        again = codec.bases(codec.encode(decoded, groups))  # not what was stored: colours may leave a channel unused
        torch.testing.assert_close(
            codec.show(again, groups if codec.num_groups else None), decoded, rtol=1e-3, atol=1e-3
        )
    else:
        plain = Codec(codec.decoding, codec.shape, 1, codec.tables)
        torch.testing.assert_close(codec.bases(stored), cut_tiles(plain.bases(stored), factor))


def test_plain_images_take_the_room_of_themselves_and_smaller_ones_less(tmp_path: Path) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    counts = {}
    for text in SPECIFICATIONS:
        codec = codec_for(dataset, text)
        counts[text] = codec.decoding.per_class(10, dataset.shape)
        assert counts[text] * math.prod(codec.stored_shape) <= 10 * math.prod(dataset.shape)
    expected = {"tiles": 10, "frequency:share=0.5": 20, "group-maps": 10, "group-maps:channels=1": 30, LEARNED: 30}
    assert counts == expected


def test_bases_are_shown_in_groups_evenly_and_anew_for_every_key(tmp_path: Path) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    codec = codec_for(dataset, "group-maps", 2)
    stored = torch.randn(4, *codec.stored_shape, generator=Streams(0).torch("stored"))
    none = torch.zeros(16, dtype=torch.int64)
    synthetic = SyntheticImages(stored, none, 2, codec, store_of(dataset), Streams(0), Processes())
    assert synthetic.per_class == 8
    bases = codec.bases(stored)

    def shown(images: Tensor, base: int) -> int:
        """The group in which `images` show this base."""
        found = codec.show(bases[base : base + 1].expand(3, -1, -1, -1), torch.arange(3))
        return int((found - images).flatten(1).norm(dim=1).argmin())

    seen = []
    for key in (1, 2):
        images, labels = synthetic.decoded_images(slice(1, 2), key)
        assert labels.tolist() == [1] * 8
        seen.append([shown(image, 8 + base) for base, image in enumerate(images.detach())])
        assert sorted(np.bincount(seen[-1], minlength=3)) == [2, 3, 3]
    assert seen[0] != seen[1]
    batch = synthetic.batch_of_cells(slice(0, 2), [(0, 2), (1,)], 5)
    assert batch.labels.tolist() == [0] * 8 + [1] * 8
    assert batch.weights.target.tolist() == [0] * 4 + [1] * 4 + [2] * 8
    np.testing.assert_allclose(batch.weights.weight, [1 / 4] * 8 + [1 / 8] * 8)
    assert [shown(image, 8 + base) for base, image in enumerate(batch.images.detach()[8:])] == [1] * 8


def test_an_epoch_of_evaluation_shows_each_base_once(tmp_path: Path) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    codec = codec_for(dataset, "group-maps")
    bases = torch.randn(4, 3, 8, 8, generator=Streams(0).torch("bases"))
    images = ShownInGroups(codec, bases)
    assert images.views == 3
    found = images.take(np.array([0, 4, 11]))
    expected = codec.show(bases[[0, 1, 3]], torch.tensor([0, 1, 2]))
    torch.testing.assert_close(found, expected)
    assert Subset(images, np.array([1])).views == 1


def distilled(dataset: BiasedDataset, text: str, **words: object) -> SyntheticSet:
    options: dict[str, object] = {"fairness": "fairdd", "ipc": 3, "iterations": 2, "batch_real": 12, "decoding": text}
    chosen = resolved("dm", network=NETWORK, options={}, **{**options, **words})
    check_config(chosen, dataset)
    return run_distillation(chosen, dataset, RUNTIME, NullProgress())


@pytest.mark.parametrize("match", ["class", "cells"])
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("text", SPECIFICATIONS[1:])
def test_sets_of_every_decoding_go_the_whole_way(
    fairdd: Fairdd, tmp_path: Path, text: str, factor: int, match: str
) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    options = ["--method", "dm", "--fair", "--ipc", 3, "--iterations", 2, "--network", NETWORK, "--factor", factor]
    fairdd("distill", "data.h5", *options, "--decoding", text, "--match", match, "-o", "s.h5")
    made = read_synthetic(str(tmp_path / "s.h5"))
    count = {"group-maps:channels=1": 9, "group-maps": 3, "frequency:share=0.5": 6, LEARNED: 9}[text]
    assert len(made.images) == 2 * count
    assert made.shape == dataset.shape
    assert made.decoding == text
    assert "decoding" in json.loads(json.dumps(dict(made.options)))
    fairdd("evaluate", "s.h5", "--seeds", 1, "--epochs", 2, "-o", "e.json")
    said = fairdd("inspect", "s.h5").stdout
    assert f"({text}):IPC{made.equivalent_ipc:.4g}ofplainimages" in "".join(said.split())
    (row,) = json.loads(fairdd("report", "e.json", "--format", "json").stdout)
    assert row["stored_numbers"] == made.stored_numbers
    assert row["stored_equivalent_ipc"] == pytest.approx(made.equivalent_ipc)
    assert f"stores {made.stored_numbers:,} numbers" in " ".join(fairdd("report", "e.json").stdout.split())
    fairdd("verify", "s.h5", "e.json")
    fairdd("inspect", "s.h5", "--export", "set.npz", "--images", "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        sheet = np.asarray(picture)
    assert np.array_equal(sheet, grid([list(row) for row in visible(made).reshape(2, count, 3, 8, 8)]))
    assert np.array_equal(visible(made), pixels(shown_images(made), made.mean, made.std))
    groups = 3 if "maps" in text else 1
    with np.load(tmp_path / "set.npz") as exported:
        assert exported["images"].shape == (2 * count * factor**2 * groups, 3, 8, 8)
        assert np.bincount(exported["labels"]).tolist() == [count * factor**2 * groups] * 2
    loaded = load(str(tmp_path / "s.h5"))
    assert len(loaded) == 2 * count * factor**2 * groups
    if groups > 1:
        assert np.bincount(loaded.protected.numpy()).tolist() == [2 * count * factor**2] * 3
        assert loaded.groups == dataset.protected_names
    images, _, _ = training_images(made)
    assert images.isfinite().all()
    assert shown_images(made).shape == (2 * count, 3, 8, 8)


def test_a_set_of_another_decoding_is_trained_on_as_what_it_is_decoded_to(tmp_path: Path) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    made = distilled(dataset, "frequency:share=0.5")
    data = synthetic_data(made, RUNTIME)
    expected = stored_codec(made).bases(torch.from_numpy(made.images))
    torch.testing.assert_close(data.images.take(np.arange(len(expected))), expected)
    shown = synthetic_data(distilled(dataset, "group-maps"), RUNTIME)
    assert (shown.images.views, len(shown.labels)) == (3, 6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--decoding", "grup-maps"], "did you mean 'group-maps'"),
        (["--decoding", "group-maps:channels=9"], "channels=9 is more than the 3 of the images"),
        (["--decoding", "group-maps:channels=0"], "channels=0 should be at least 1"),
        (["--decoding", "group-maps:kernel=2"], "kernel=2 should be odd"),
        (["--decoding", "group-maps:offset=9"], "offset=9 is more than the 8 of the images"),
        (["--decoding", "group-maps:learn=-1"], "learn=-1 should be 0 or more"),
        (["--decoding", "frequency:share=2"], "share=2 should be above 0 and at most 1"),
        (["--decoding", "tiles:a=1"], "takes no options"),
        (["--decoding", "group-maps", "--method", "idc"], "idc, which steps in pixels and stores images"),
    ],
)
def test_wrong_decodings_are_refused_in_a_line(fairdd: Fairdd, toy: BiasedDataset, words: list[str], said: str) -> None:
    done = fairdd("distill", toy.path, "--method", "dm", "--ipc", 1, *words, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("text", "table", "value"),
    [
        ("frequency", "positions", np.array([0, 500], np.int64)),
        ("frequency", "positions", np.array([3, 2], np.int64)),
        ("group-maps", "matrix", np.zeros((3, 3, 2), np.float32)),
        ("group-maps", "matrix", np.full((3, 3, 3), np.nan, np.float32)),
        ("group-maps", "other", np.zeros(3, np.float32)),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, text: str, table: str, value: np.ndarray) -> None:
    dataset, *_ = coloured(tmp_path / "data.h5")
    made = distilled(dataset, text)
    broken = dataclasses.replace(made, tables={**made.tables, table: value}, path="s.h5")
    with pytest.raises(UsageError, match=r"'s\.h5' is not a sound synthetic set: its tables are not those of"):
        stored_codec(broken)


def test_every_decoding_is_described(fairdd: Fairdd) -> None:
    listed = json.loads(fairdd("list", "decodings", "--format", "json").stdout)["decodings"]
    assert sorted(listed) == DECODINGS.names()
    for name in listed:
        described = json.loads(fairdd("list", "decodings", name, "--format", "json").stdout)
        assert described["title"]
        assert described["paper"]
