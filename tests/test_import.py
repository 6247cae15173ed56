"""Synthetic sets of other tools: each layout is read, checked against the data set, and trained on."""

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Fairdd, write_toy
from evaluations import synthetic
from PIL import Image

from fairdd_cli.artifacts import (
    BiasedDataset,
    SyntheticSet,
    read_foreign,
    read_synthetic,
    write_export,
    write_synthetic,
)
from fairdd_cli.config import ImportConfig
from fairdd_cli.config.keywords import configure
from fairdd_cli.distill import distill
from fairdd_cli.errors import UsageError
from fairdd_cli.import_set import Imported, run_import
from fairdd_cli.loading import as_export, load, training_images

IPC = 4
MEAN, STD = np.full((3, 1, 1), 0.5), np.full((3, 1, 1), 0.25)


@pytest.fixture
def dataset(tmp_path: Path) -> BiasedDataset:
    """Three classes of 8x8 images, normalised by 0.5 and 0.25."""
    return write_toy(tmp_path / "toy.h5", np.full((3, 2), 4))


@pytest.fixture
def made(dataset: BiasedDataset) -> SyntheticSet:
    """A set of noise for the data set."""
    return replace(synthetic(ipc=IPC), class_names=dataset.class_names, mean=dataset.mean, std=dataset.std)


def imported(path: str, dataset: BiasedDataset, **options: Any) -> Imported:
    """What `fairdd import` makes of `path` with these options, and what it says."""
    return run_import(configure(ImportConfig, options, file=path, data=dataset.path), dataset)


def tensors(made: SyntheticSet) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(made.images), torch.from_numpy(made.labels)


def save(value: object, path: Path) -> str:
    torch.save(value, path)
    return str(path)


def dc(made: SyntheticSet, path: Path) -> str:
    """As main.py of DC, DSA and DM saves its results: two repetitions, and accuracies as numbers of NumPy."""
    images, labels = tensors(made)
    repetitions = [[images + 1, labels], [images, labels]]
    return save({"data": repetitions, "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}, path)


def mtt(made: SyntheticSet, path: Path) -> str:
    """As distill.py of MTT saves its best images, with the labels beside them."""
    images, labels = tensors(made)
    save(labels, path.with_name("labels_best.pt"))
    return save(images, path.with_name("images_best.pt"))


LAYOUTS: dict[str, tuple[Callable[[SyntheticSet, Path], str], dict[str, Any]]] = {
    "dc": (dc, {"repetition": 2}),
    "mtt": (mtt, {}),
    "images alone": (lambda made, path: save(tensors(made)[0], path), {}),
    "tuple": (lambda made, path: save(tensors(made), path), {}),
    "list": (lambda made, path: save(list(tensors(made)), path), {}),
    "dict": (lambda made, path: save(dict(zip(("images", "labels"), tensors(made), strict=True)), path), {}),
    "parameter": (lambda made, path: save((torch.nn.Parameter(tensors(made)[0]), tensors(made)[1]), path), {}),
    "column of labels": (lambda made, path: save((tensors(made)[0], tensors(made)[1][:, None].float()), path), {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_read(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path, layout: str) -> None:
    write, options = LAYOUTS[layout]
    found = imported(write(made, tmp_path / "set.pt"), dataset, **options).synthetic
    np.testing.assert_array_equal(found.images, made.images)
    np.testing.assert_array_equal(found.labels, made.labels)
    assert (found.ipc, found.dataset_digest, found.evaluation["epochs"]) == (IPC, dataset.digest, 1000)
    write_synthetic(str(tmp_path / "s.h5"), found)
    assert read_synthetic(str(tmp_path / "s.h5")).method == "imported"


@pytest.mark.parametrize("name", ["out.npz", "out.pt", "out.safetensors", "out"])
def test_it_is_the_inverse_of_an_export(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    write_export(path, as_export(made))
    found = imported(path, dataset).synthetic
    assert found.images.tobytes() == made.images.tobytes()
    assert found.labels.tobytes() == made.labels.tobytes()


@pytest.mark.parametrize("name", ["out.npz", "out.safetensors", "out"])
@pytest.mark.parametrize(
    "options",
    [
        {"factor": 2, "match": "cells"},
        {"decoding": "frequency:share=0.5", "match": "cells"},
        {"decoding": "group-maps"},
    ],
    ids=str,
)
def test_what_is_exported_decoded_comes_back_with_its_groups(
    options: dict[str, Any], name: str, dataset: BiasedDataset, tmp_path: Path
) -> None:
    made = distill(
        dataset,
        method="dm",
        fairness="fairdd",
        ipc=1,
        iterations=0,
        network="mlp",
        init="balanced",
        quiet=True,
        **options,
    )
    path = str(tmp_path / name)
    write_export(path, as_export(made))
    found = imported(path, dataset)
    (images, labels, groups), again = training_images(made), training_images(found.synthetic)
    assert groups is not None
    assert len(set(groups.tolist())) > 1
    assert again[2] is not None
    assert again[0].numpy().tobytes() == images.contiguous().numpy().tobytes()
    assert (again[1].tolist(), again[2].tolist()) == (labels.tolist(), groups.tolist())
    assert found.synthetic.protected_names == dataset.protected_names
    assert "each image's group is kept" in found.notes
    write_synthetic(str(tmp_path / "s.h5"), found.synthetic)
    assert load(str(tmp_path / "s.h5")).protected.tolist() == groups.tolist()


def test_groups_go_with_their_images_into_the_order_of_classes(
    dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(len(made.images))
    groups = np.arange(len(order)) % 2
    export = replace(as_export(made), groups=groups, group_names=dataset.protected_names)
    mixed = replace(export, images=export.images[order], labels=export.labels[order], groups=groups[order])
    for name in ("out", "out.npz", "out.safetensors"):
        write_export(str(tmp_path / name), mixed)
        found = imported(str(tmp_path / name), dataset).synthetic
        assert found.groups is not None
        known = {image.tobytes(): int(group) for image, group in zip(made.images, groups, strict=True)}
        assert [known[image.tobytes()] for image in found.images] == found.groups.tolist()
    first = next(iter(sorted((tmp_path / "out").glob("*/*.png"))))
    first.unlink()  # the others keep theirs
    fewer = imported(str(tmp_path / "out"), dataset).synthetic
    assert fewer.groups is not None
    assert len(fewer.groups) == len(made.images) - 1
    first.with_name("added.png").write_bytes(next(iter(sorted((tmp_path / "out").glob("*/*.png")))).read_bytes())
    assert imported(str(tmp_path / "out"), dataset).synthetic.groups is None  # of which nothing is known


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"group_names": ("a", "b")}, "its groups are a, b, those of the data set"),
        ({"groups": np.full(12, 2)}, ""),
        ({"groups": np.full(12, -1)}, ""),
        ({"groups": np.zeros(11, np.int64)}, ""),
        ({"groups": np.zeros(12)}, ""),
        ({"groups": np.zeros((12, 2), np.int64)}, ""),
        ({"group_names": ()}, ""),
    ],
    ids=str,
)
def test_groups_that_mean_another_thing_are_left_out(
    changes: dict[str, Any], note: str, dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path
) -> None:
    groups = {"groups": np.arange(12) % 2, "group_names": dataset.protected_names, **changes}
    write_export(str(tmp_path / "out.npz"), replace(as_export(made), **groups))
    found = imported(str(tmp_path / "out.npz"), dataset)
    assert (found.synthetic.groups, found.synthetic.protected_names) == (None, ())
    assert note in "; ".join(found.notes)


def test_groups_of_whole_images_are_left_out_with_a_factor(
    dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path
) -> None:
    export = replace(as_export(made), groups=np.arange(12) % 2, group_names=dataset.protected_names)
    write_export(str(tmp_path / "out.npz"), export)
    found = imported(str(tmp_path / "out.npz"), dataset, factor=2)
    assert found.synthetic.groups is None
    assert "not of the 2x2 inside each: left out" in "; ".join(found.notes)


def test_a_folder_comes_back_as_its_pixels(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path) -> None:
    write_export(str(tmp_path / "one"), as_export(made))
    write_export(str(tmp_path / "two"), as_export(imported(str(tmp_path / "one"), dataset).synthetic))
    for file in (tmp_path / "one").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    assert imported(str(tmp_path / "one"), dataset).synthetic.fairness == "vanilla"


def test_edited_pictures_count_for_more_than_their_exact_values(
    dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path
) -> None:
    write_export(str(tmp_path / "out"), as_export(made))
    found = imported(str(tmp_path / "out"), dataset)
    assert found.notes[0].endswith("a folder of PNG, its exact values from exact.npz, 12 images")
    first = next(iter(sorted((tmp_path / "out").glob("*/*.png"))))
    Image.new("RGB", (8, 8)).save(first)
    edited = imported(str(tmp_path / "out"), dataset)
    assert "not those of its exact.npz, which is left out" in edited.notes[0]
    assert (edited.synthetic.images[0] == -2).all()  # black
    first.unlink()
    assert len(imported(str(tmp_path / "out"), dataset).synthetic.images) == len(made.images) - 1
    (tmp_path / "out" / "exact.npz").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"exact.npz' is truncated or damaged"):
        imported(str(tmp_path / "out"), dataset)


def test_real_images_come_back_exactly_from_a_folder(dataset: BiasedDataset, tmp_path: Path) -> None:
    from fairdd_cli.runtime import ImageStore, Runtime

    store = ImageStore(dataset.train.images, dataset.mean, dataset.std, Runtime(torch.device("cpu")), "disk")
    images = store.take(np.arange(24)).contiguous().numpy()
    real = replace(synthetic(ipc=8), images=images, labels=dataset.train.labels)
    write_export(str(tmp_path / "out"), replace(as_export(real), class_names=dataset.class_names))
    assert imported(str(tmp_path / "out"), dataset).synthetic.images.tobytes() == images.tobytes()


@pytest.mark.parametrize("names", [("class 0", "class 1", "class 2"), ("0", "1", "2")])
def test_folders_are_classes_by_name_or_number(dataset: BiasedDataset, tmp_path: Path, names: tuple[str, ...]) -> None:
    for label, name in enumerate(names):
        (tmp_path / "out" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (100 * label, 0, 0)).save(tmp_path / "out" / name / "a.png")
    found = imported(str(tmp_path / "out"), dataset).synthetic
    assert found.labels.tolist() == [0, 1, 2]
    assert found.images[:, 0, 0, 0] == pytest.approx([-2, (100 / 255 - 0.5) / 0.25, (200 / 255 - 0.5) / 0.25])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: images, "normalised"),
        (lambda images: (images * STD + MEAN).clip(0, 1), "in [0, 1]"),
        (lambda images: np.rint((images * STD + MEAN).clip(0, 1) * 255), "levels of 0…255"),
        (lambda images: np.rint((images * STD + MEAN).clip(0, 1) * 255).astype(np.uint8), "levels of 0…255"),
    ],
    ids=["normalised", "unit", "levels", "bytes"],
)
def test_the_kind_of_values_is_found_out_and_said(
    dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    made = replace(made, images=made.images.clip(-2, 2))
    np.savez(tmp_path / "set.npz", images=change(made.images), labels=made.labels)
    found = imported(str(tmp_path / "set.npz"), dataset)
    np.testing.assert_allclose(found.synthetic.images, made.images, atol=0.6 / 255 / 0.25)
    assert any(words in note for note in found.notes)


def test_what_was_found_out_can_be_overridden(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.full((3, 3, 8, 8), 0.5), labels=np.arange(3))
    path = str(tmp_path / "set.npz")
    assert imported(path, dataset).synthetic.images.max() == 0
    assert imported(path, dataset, values="normalised").synthetic.images.max() == 0.5
    other = imported(path, dataset, values="normalised", mean=(0.4,) * 3, std=(0.2,) * 3).synthetic
    assert other.images == pytest.approx((0.5 * 0.2 + 0.4 - 0.5) / 0.25)
    with pytest.raises(UsageError, match="which are no unit of 0"):
        np.savez(path, images=np.full((3, 3, 8, 8), 1.5), labels=np.arange(3))
        imported(path, dataset, values="unit")


def test_the_protocol_is_the_one_that_is_named(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path) -> None:
    path = save(tensors(made), tmp_path / "set.pt")
    protocols = {name: imported(path, dataset, protocol=name).synthetic.evaluation for name in ("dm", "dc", "idc")}
    assert (protocols["dm"]["epochs"], protocols["dc"]["epochs"]) == (1000, 300)
    digits = replace(dataset, mirror_keeps_class=False)
    assert "flip" not in imported(path, digits).synthetic.evaluation["augmentation"]
    with pytest.raises(UsageError, match="unknown protocol 'cd'"):
        imported(path, dataset, protocol="cd")


def test_labels_in_any_order_are_sorted(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path) -> None:
    images, labels = tensors(made)
    order = torch.arange(len(labels)).flip(0)
    found = imported(save((images[order], labels[order]), tmp_path / "set.pt"), dataset).synthetic
    assert found.labels.tolist() == made.labels.tolist()
    np.testing.assert_array_equal(found.images[0], made.images[IPC - 1])


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("unpickled",)


def bomb(path: Path) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        for _ in range(1100):
            member.write(bytes(2**20))
    return str(path)


def liar(path: Path) -> str:
    head = json.dumps({"images": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    return str(path)


def files(folder: Path) -> str:
    (folder / "stranger").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "stranger" / "a.png")
    return str(folder)


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


IMAGES = torch.zeros(6, 3, 8, 8)
LABELS = torch.arange(3).repeat_interleave(2)


def growing(path: Path) -> str:
    """An archive of some 80 kB that becomes 77 MB of images, and several times that in floating point."""
    np.savez_compressed(path, images=np.zeros((400_000, 3, 8, 8), np.uint8), labels=np.arange(400_000) % 3)
    return str(path)


def pictures(folder: Path) -> str:
    """Three black pictures of some kilobytes that become 81 MB."""
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        Image.new("RGB", (3000, 3000)).save(folder / str(label) / "0.png")
    return str(folder)


def renamed(folder: Path) -> str:
    """A picture in EPS, which Pillow gives to another program, under the name of a PNG."""
    (folder / "0").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "0" / "a.png", "EPS")
    return str(folder)


REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "soft labels": (lambda path: save((IMAGES, torch.rand(6, 3)), path / "a.pt"), "its labels are soft .6x3."),
    "other size": (lambda path: save((torch.zeros(6, 3, 9, 9), LABELS), path / "a.pt"), "images of 3x9x9, but"),
    "other labels": (lambda path: save((IMAGES, LABELS + 1), path / "a.pt"), "has labels 1…3, but"),
    "a class without images": (lambda path: save((IMAGES, LABELS // 2), path / "a.pt"), "no image of class 'class 2'"),
    "fewer labels": (lambda path: save((IMAGES, LABELS[:5]), path / "a.pt"), "has 6 images, but its labels"),
    "no multiple": (lambda path: save(IMAGES[:5], path / "a.pt"), "no multiple of the 3 classes"),
    "not finite": (lambda path: save(IMAGES * float("nan"), path / "a.pt"), "not finite"),
    "a state dict": (lambda path: save({"w": torch.zeros(3)}, path / "a.pt"), "a dict without images; its keys are w"),
    "code": (lambda path: save({"data": Harmful()}, path / "a.pt"), "is not unpickled"),
    "plain pickle": (
        lambda path: str((path / "a.pt").write_bytes(pickle.dumps([1])) and path / "a.pt"),
        "not saved by torch",
    ),
    "another format by the name of PNG": (lambda path: renamed(path / "a"), "cannot identify image file"),
    "a tensor without end": (
        lambda path: save((torch.zeros(1).expand(2**40), LABELS), path / "a.pt"),
        "is more than is read here",
    ),
    "a tensor that repeats its images": (
        lambda path: save((torch.zeros(1, 3, 8, 8).expand(100_000, -1, -1, -1), LABELS), path / "a.pt"),
        "is more than is read here",
    ),
    "pictures that grow": (lambda path: pictures(path / "a"), "3 images of its size, .3000, 3000., are more than is"),
    "an archive that grows": (lambda path: growing(path / "a.npz"), "grows to more than 20 times its size"),
    "bomb": (lambda path: bomb(path / "a.npz"), "holds more than the"),
    "objects": (lambda path: npz(path / "a.npz", images=np.array([Harmful()])), "damaged or not of numbers"),
    "no images": (lambda path: npz(path / "a.npz", z=np.zeros(3)), "no array named 'images'; it holds z"),
    "other classes": (
        lambda path: npz(path / "a.npz", images=IMAGES, labels=LABELS, class_names=np.array(["a", "b", "c"])),
        "has the classes a, b, c, but",
    ),
    "shape that lies": (lambda path: liar(path / "a.safetensors"), "not as long as its shape says"),
    "short": (lambda path: str((path / "a.safetensors").write_bytes(b"x") and path / "a.safetensors"), "cut off"),
    "strange folder": (lambda path: files(path / "a"), "'stranger' is none of the classes"),
    "empty folder": (lambda path: str((path / "a").mkdir() or path / "a"), "has 0 PNG"),
    "suffix": (lambda path: str(path / "a.mat"), "none of the known suffixes"),
    "missing": (lambda path: str(path / "a.npz"), "does not exist"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_fit_is_told(
    dataset: BiasedDataset, tmp_path: Path, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write, words = REFUSED[reason]
    with pytest.raises(UsageError, match=words) as failed:
        imported(write(tmp_path), dataset)
    assert len(str(failed.value).splitlines()) <= 2
    assert "unpickled" not in capsys.readouterr().out


def test_a_repetition_that_is_not_there(dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds 2 repetitions; --repetition 3 is none of them"):
        read_foreign(dc(made, tmp_path / "res.pt"), 3)


@pytest.mark.parametrize("name", ["set.pt", "set.npz", "set.safetensors"])
def test_damaged_files_are_refused_or_read(
    dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path, name: str
) -> None:
    from fairdd_cli.runtime import Streams

    path = tmp_path / name
    write_export(str(path), as_export(made))
    sound = path.read_bytes()
    for number in range(150):
        draw, content = Streams(0).numpy("damage", number), bytearray(sound)
        for _ in range(draw.integers(1, 6)):
            start = len(content) - 300 if number % 2 else 0  # a ZIP archive has its list of contents at the end
            content[draw.integers(start, len(content))] = draw.integers(256)
        path.write_bytes(content[: draw.integers(len(content))] if number % 4 == 0 else content)
        try:
            imported(str(path), dataset)
        except UsageError as error:
            assert len(str(error).splitlines()) <= 2


def test_a_set_of_another_tool_goes_the_whole_way(
    fairdd: Fairdd, dataset: BiasedDataset, made: SyntheticSet, tmp_path: Path
) -> None:
    dc(made, tmp_path / "res_DM_ConvNet_0.1.pt")
    words = ["import", "res_DM_ConvNet_0.1.pt", "--data", "toy.h5", "--repetition", 2, "--method", "theirs"]
    done = fairdd(*words)
    assert done.stdout == "toy.res_DM_ConvNet_0.1.h5\n"
    assert "DC, DSA, DM (res_….pt), 12 images" in done.stderr
    assert "normalised (--values says otherwise)" in done.stderr
    assert fairdd(*words, check=False).returncode == 2
    network = ["--network", "convnet:width=4,depth=1"]
    evaluation = fairdd("evaluate", "toy.res_DM_ConvNet_0.1.h5", "--seeds", 1, "--epochs", 2, *network).stdout.strip()
    rows = json.loads(fairdd("report", evaluation, "--format", "json", "--html", "page.html").stdout)
    assert (rows[0]["method"], rows[0]["ipc"]) == ("theirs", IPC)
    again = "fairdd import res_DM_ConvNet_0.1.pt --data DATA --protocol dm --values auto --repetition 2"
    assert again in (tmp_path / "page.html").read_text()
    assert "theirs" in fairdd("inspect", "toy.res_DM_ConvNet_0.1.h5").stdout
    assert fairdd("verify", "toy.h5", "toy.res_DM_ConvNet_0.1.h5", evaluation).stdout.count("sound") == 3
