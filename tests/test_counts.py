"""Tables of counts are read quickly, and to the same result as by json, or left to it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairdd_cli.artifacts import _counts
from fairdd_cli.artifacts._counts import load, parse

tables = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)).flatmap(
    lambda size: hnp.arrays(np.int64, (*size, size[1]), elements=st.one_of(st.integers(0, 12), st.integers(0, 10**14)))
)


def content(found: dict[str, np.ndarray], **more: object) -> bytes:
    """The text of an evaluation of these tables."""
    shape = next(iter(found.values())).shape
    names = {"class_names": ["c"] * shape[1], "protected_names": ["g"] * shape[2]}
    confusion = {name: table.tolist() for name, table in found.items()}
    return (json.dumps({**names, **more, "confusion": confusion}) + "\n").encode()


@given(tables)
def test_tables_are_those_of_json(table: np.ndarray) -> None:
    found = {"convnet": table, "mlp: a, b": table + 1}
    values, read = load(content(found, metrics={"confusion": {"a": [[[[1]]]]}}))
    assert values["confusion"] == {}
    assert values["metrics"] == {"confusion": {"a": [[[[1]]]]}}
    assert list(read) == list(found)
    for name, expected in found.items():
        assert read[name].dtype == np.int64
        np.testing.assert_array_equal(read[name], expected)


GOOD = content({"convnet": np.arange(8).reshape(1, 2, 2, 2)}).decode()


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('"convnet"', '"conv\\u006eet"'),
        GOOD.replace("3", "-3"),
        GOOD.replace("3", "3.0"),
        GOOD.replace("3", "1000000000000000000000"),
        GOOD.replace(", ", ","),
        GOOD.replace("[0, 1]", "[0, [1]]"),
        GOOD.replace("[0, 1], ", "[0], 1, "),
        GOOD.replace("}}", '}, "z": 1}'),
        json.dumps({**json.loads(GOOD), "confusion": {}}),
        json.dumps({**json.loads(GOOD), "class_names": 3}),
        "[1, 2]",
    ],
)
def test_other_forms_are_left_to_json(text: str) -> None:
    assert load(text.encode()) == (json.loads(text), {})


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("3", "03"),
        GOOD.replace("3", ""),
        GOOD.replace("[0, 1]", "[0 1, ]"),
        GOOD.replace("[0, 1]", "0[, 1]"),
        GOOD.replace('{"convnet"', '{, "convnet"'),
        GOOD.replace('{"convnet": ', '{"convnet": [[[[]]]]"a": '),
        GOOD[:-3],
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|delimiter|table|Extra|Illegal|value"):
        load(text.encode())


def test_a_table_is_as_large_as_its_names_say() -> None:
    assert parse(b"[[[[1]]]]", 1, 1).shape == (1, 1, 1, 1)
    for classes, groups in ((2, 1), (1, 0), (0, 0)):
        with pytest.raises(ValueError, match="size"):
            parse(b"[[[[1]]]]", classes, groups)


def test_the_quick_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_counts, "TABLES", b"none")
    assert load(GOOD.encode())[1] == {}
    monkeypatch.undo()
    assert load(GOOD.encode())[1].keys() == {"convnet"}
