"""Where synthetic images lie among the groups: the projection, and what is drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_toy
from evaluations import synthetic

from fairdd_cli.errors import UsageError
from fairdd_cli.reporting.group_coverage import class_projections, find_class, project
from fairdd_cli.runtime import NullProgress, Runtime, Streams


def test_the_projection_is_that_of_principal_components() -> None:
    generator = Streams(0).numpy("projection")
    rotation, _ = np.linalg.qr(generator.normal(size=(6, 6)))
    flat = np.zeros((200, 6))
    flat[:, 0], flat[:, 1] = 5 * generator.normal(size=200), 2 * generator.normal(size=200)
    real, others, explained = project(flat @ rotation + 7, flat[:3] @ rotation + 7)
    assert explained == pytest.approx(1)
    np.testing.assert_allclose(others, real[:3], atol=1e-9)
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(real[:, None] - real[None], axis=-1), apart, atol=1e-8)
    assert real[:, 0].var() > real[:, 1].var()
    assert project(np.ones((5, 4)), np.ones((2, 4)))[2] == 0  # nothing varies


def test_groups_are_drawn_evenly_and_repeatably(tmp_path: Path) -> None:
    dataset = write_toy(tmp_path / "data.h5", np.array([[900, 150, 0], [5, 300, 700]]))
    made = synthetic(classes=2)
    runtime = Runtime(torch.device("cpu"))
    first, second = (class_projections(made, dataset, [0, 1], runtime, NullProgress()) for _ in range(2))
    counts = [np.bincount(projection.groups, minlength=3).tolist() for projection in first]
    assert counts[0][0] == 200  # of 400, half to each of two groups
    assert 90 <= counts[0][1] <= 150  # drawn with replacement, shown once
    assert counts[0][2] == 0
    assert counts[1] == [5, 133, 133]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.real, other.real)
        np.testing.assert_array_equal(one.synthetic, other.synthetic)
        assert one.synthetic.shape == (made.ipc, 2)
        assert 0 < one.explained <= 1


def test_a_class_is_found_by_name_or_number() -> None:
    names = ("cat", "1", "dog")
    assert [find_class(name, names) for name in ("dog", "1", "0")] == [2, 1, 0]
    with pytest.raises(UsageError, match="did you mean 'dog'"):
        find_class("dogs", names)
