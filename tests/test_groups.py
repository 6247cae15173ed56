"""Groups that are found or corrupted, images that stand for others, and the mixing of images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import resolved, write_toy
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset, MemoryImages, Split, read_synthetic, write_synthetic
from fairdd_cli.distill import check_config, run_distillation
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import find_strategy
from fairdd_cli.matching.groups import cluster_groups, corrupt_groups, parse_groups
from fairdd_cli.matching.selection import representatives
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import RESIDENCIES, NullProgress, Streams, open_runtime
from fairdd_cli.training import TrainingConfig, sample_cutmix
from fairdd_cli.training import augmentation as augment


@pytest.fixture
def apart() -> Split:
    """Two classes of which 36 images are dark and 4 bright."""
    labels, protected = np.repeat([0, 1], 40), np.tile(np.repeat([0, 1], [36, 4]), 2)
    images = Streams(0).numpy("apart").integers(0, 40, (80, 1, 4, 4), dtype=np.uint8)
    images[protected == 1] += 150
    return Split.sorted_by_cell(MemoryImages(images), labels, protected, 2, 2)


def look(split: Split) -> Tensor:
    return torch.from_numpy(split.images.all().reshape(len(split), -1)).float()


def test_clusters_find_groups_that_can_be_seen(apart: Split) -> None:
    found = cluster_groups(apart, 2, lambda indices: look(apart)[indices], Streams(1))
    assert np.array_equal(np.sort(found.count, axis=1), [[4, 36], [4, 36]])
    bright = found.images.all().mean(axis=(1, 2, 3)) > 100
    for label in range(2):
        for group in range(2):
            start, count = found.start[label, group], found.count[label, group]
            assert len(set(bright[start : start + count])) == 1
    np.testing.assert_array_equal(found.images.take(np.array([3, 70])), found.images.all()[[3, 70]])


def test_noise_replaces_a_share_of_the_groups_and_keeps_images_with_their_labels(toy: BiasedDataset) -> None:
    split = toy.train
    found, again = corrupt_groups(split, 0.5, Streams(4)), corrupt_groups(split, 0.5, Streams(4))
    np.testing.assert_array_equal(found.protected, again.protected)
    np.testing.assert_array_equal(found.count.sum(axis=1), split.count.sum(axis=1))
    before = {
        image.tobytes(): (y, a) for image, y, a in zip(split.images.all(), split.labels, split.protected, strict=True)
    }
    moved = 0
    for image, label, group in zip(found.images.all(), found.labels, found.protected, strict=True):
        assert before[image.tobytes()][0] == label
        moved += before[image.tobytes()][1] != group
    assert 0.2 * len(split) < moved <= 0.5 * len(split)
    np.testing.assert_array_equal(corrupt_groups(split, 0, Streams(4)).protected, split.protected)


def test_groups_may_change_whatever_the_residency(toy: BiasedDataset) -> None:
    for changes in ({"groups": "pseudo:3"}, {"group_noise": 0.3}):
        chosen = resolved(
            "dm", fairness="fairdd", ipc=1, iterations=2, network=parse_network("convnet:width=4,depth=2"), options={},
            **changes,
        )  # fmt: skip
        found = [
            run_distillation(chosen, toy, open_runtime("cpu"), NullProgress(), residency).images
            for residency in RESIDENCIES
        ]
        for images in found[1:]:
            np.testing.assert_array_equal(images, found[0])


@pytest.mark.parametrize("text", ["pseudo:1", "pseudo:x", "clusters", "labels:2"])
def test_unknown_groups_are_refused(text: str) -> None:
    assert (parse_groups("labels"), parse_groups("pseudo"), parse_groups("pseudo:4")) == (0, 10, 4)
    with pytest.raises(UsageError, match="expected labels, pseudo or pseudo:K"):
        parse_groups(text)


def test_rare_images_weigh_more_by_cell_size_and_by_density(apart: Split) -> None:
    for name in ("inverse", "kde"):
        weights = find_strategy(name).sample_weights(apart, lambda indices: look(apart)[indices])
        assert weights[apart.protected == 1].min() > 2 * weights[apart.protected == 0].max(), name
    weight = (
        find_strategy("inverse").assign_targets(apart.protected[:40], 1 / apart.count[0][apart.protected[:40]]).weight
    )
    np.testing.assert_allclose([weight[:36].sum(), weight[36:].sum()], 0.5, rtol=1e-6)


def test_the_density_weight_of_an_image_far_from_all_others_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairdd_cli.fairness.kde.REFERENCES", 10)
    points = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    points[1] = 1e6  # no reference: those are spread evenly, from the first on
    images = MemoryImages(np.zeros((40, 1, 2, 2), np.uint8))
    split = Split.sorted_by_cell(images, np.zeros(40, np.int64), np.arange(40) % 2, 1, 2)
    lone = int(np.flatnonzero(points[:, 0] > 1)[0])
    weights = find_strategy("kde").sample_weights(split, lambda indices: torch.from_numpy(points[indices]))
    assert weights.argmax() == lone
    assert weights[lone] == 10
    assert np.isfinite(weights).all()


def test_representatives_are_the_images_nearest_to_their_clusters(apart: Split) -> None:
    drawn = np.array([0, 1, 2, 3, 4, 36, 37, 38, 39])  # five dark ones and every bright one of class 0

    def embed(indices: np.ndarray) -> Tensor:
        heaps = torch.from_numpy(indices[:, None] // 12).float()  # three of dark ones
        return heaps + look(apart)[indices, :1] / 1e4

    found = representatives(apart, drawn, True, embed, Streams(0).numpy("clusters"))
    assert np.bincount(apart.protected[found]).tolist() == [5, 4]
    assert set(found[:5] // 12) == {0, 1, 2}
    whole = representatives(apart, drawn, False, embed, Streams(0).numpy("clusters"), pool=20)
    assert len(whole) == 9
    assert (apart.labels[whole] == 0).all()


def test_cutmix_takes_a_box_from_the_partner_and_weighs_the_labels_by_its_share() -> None:
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 8, 10).contiguous()
    mixes = [sample_cutmix(1.0, 6, (8, 10), Streams(seed).numpy("mix")) for seed in range(40)]
    for mix in mixes:
        assert mix is not None
        mixed = mix.images(images)
        for own, image in enumerate(mixed):
            if mix.partner[own] != own:
                assert (image == own).float().mean().item() == pytest.approx(mix.own_weight)
                assert (image == float(mix.partner[own])).float().mean().item() == pytest.approx(1 - mix.own_weight)
    drawn = [sample_cutmix(0.5, 6, (8, 10), Streams(seed).numpy("mix")) for seed in range(400)]
    assert 150 < sum(mix is None for mix in drawn) < 250
    assert dataclasses.replace(TrainingConfig(), cutmix=0.5) == TrainingConfig.from_json(
        TrainingConfig(cutmix=0.5).to_json(), "x"
    )
    with pytest.raises(UsageError):
        TrainingConfig.from_json({**TrainingConfig().to_json(), "cutmix": 1.5}, "x")


def test_stages_follow_each_other_and_each_draws_its_own() -> None:
    draw = augment.sample_siamese("flip+color+crop_rotate", 4, (8, 8), Streams(0).torch("draw"))
    assert set(draw.operations) == {"flip"}
    assert draw.next_stage is not None
    assert set(draw.next_stage.operations) == {"color"}
    assert draw.next_stage.next_stage is not None
    assert set(draw.next_stage.next_stage.operations) <= {"crop", "rotate"}
    assert augment.without("flip+color+crop_flip", "flip") == "color+crop"
    images = torch.randn(4, 3, 8, 8, generator=Streams(0).torch("images"))
    by_hand = images
    for stage in (draw, draw.next_stage, draw.next_stage.next_stage):
        by_hand = dataclasses.replace(stage, next_stage=None).apply(by_hand, torch.arange(4))
    torch.testing.assert_close(draw.apply(images, torch.arange(4)), by_hand)


def test_a_pseudo_group_study_needs_no_labels(tmp_path: Path) -> None:
    alone = write_toy(tmp_path / "alone.h5", np.array([[12], [12]]))
    chosen = resolved(
        "gm", fairness="fairdd", ipc=1, iterations=1, network=parse_network("convnet:width=4,depth=2"),
        options={"outer_loop": "1"}, groups="pseudo:2",
    )  # fmt: skip
    assert np.isfinite(run_distillation(chosen, alone, open_runtime("cpu"), NullProgress()).images).all()


def test_images_that_stand_for_clusters_say_so(tmp_path: Path) -> None:
    """More clusters than the data has groups: neither a name of a group nor a file that cannot be read."""
    alone = write_toy(tmp_path / "alone.h5", np.array([[12], [12]]))
    chosen = resolved(
        "dm", fairness="fairdd", ipc=3, iterations=1, network=parse_network("convnet:width=4,depth=2"),
        options={}, groups="pseudo:3", match="cells",
    )  # fmt: skip
    write_synthetic(str(tmp_path / "s.h5"), run_distillation(chosen, alone, open_runtime("cpu"), NullProgress()))
    synthetic = read_synthetic(str(tmp_path / "s.h5"))
    assert synthetic.protected_names == ("cluster 0", "cluster 1", "cluster 2")
    assert set(synthetic.groups.tolist()) == {0, 1, 2}


def test_clusters_of_each_class_have_no_maps_in_common(toy: BiasedDataset) -> None:
    chosen = resolved("dm", ipc=1, fairness="fairdd", options={}, groups="pseudo:2", decoding="group-maps")
    with pytest.raises(UsageError, match="--groups pseudo:2 gives each class clusters of its own"):
        check_config(chosen, toy)
