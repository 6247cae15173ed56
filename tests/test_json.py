"""JSON is read quickly, and as by the strict decoder: the same values, and the same texts are refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairdd_cli.artifacts import _json
from fairdd_cli.artifacts._json import canonical, loads, strict_loads

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)
# Keys of which many are equal, and spaces where JSON has them.
pairs = st.lists(st.tuples(st.sampled_from(["a", "b", '":', "confusion"]), values), max_size=5)


def text_of(members: list[tuple[str, Any]], colon: str) -> str:
    return "{" + ",".join(json.dumps(key) + colon + json.dumps(value) for key, value in members) + "}"


def outcome(read: Any, *arguments: object) -> object:
    try:
        return read(*arguments)
    except ValueError:
        return "refused"


@given(pairs, st.sampled_from([":", " :", ": ", "\n\t:"]))
def test_it_is_the_strict_decoder(members: list[tuple[str, Any]], colon: str) -> None:
    text = text_of(members, colon)
    assert outcome(loads, text.encode(), "confusion") == outcome(strict_loads, text)


GOOD = '{"a": {"b": [1, 2.5]}, "confusion": {"n": [[1, 2], [3, 4]]}}'


def test_the_quick_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json, "strict_loads", lambda text: pytest.fail("the slow way was taken"))
    assert loads(GOOD.encode(), "confusion") == json.loads(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('"b"', '"b": 1, "b"'),
        GOOD.replace('"b"', '"b": 1, "b" '),
        GOOD.replace('"n"', '"n": [1], "n"'),
        GOOD.replace("[1, 2]", '[{"x": 1, "x": 2}]'),
        GOOD.replace("2.5", "NaN"),
        GOOD.replace("2.5", "-Infinity"),
        GOOD.replace("2.5", "1e999"),
        GOOD.replace("2.5", "1" + "0" * 400),
        GOOD.replace("2.5", "1" + "0" * 5000),
        GOOD.replace("2.5", "[" * 31 + "]" * 31),
        GOOD.replace("2.5", "[" * 100_000 + "]" * 100_000),
        GOOD.replace("2.5", "02"),
        GOOD.replace("2.5", "'x'"),
        GOOD[:-1],
        "",
    ],
    ids=lambda text: text[:60],
)
def test_what_is_ambiguous_or_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text.encode(), "confusion")


def test_a_number_that_is_whole_has_one_form() -> None:
    assert json.dumps(canonical({"a": [1.0, 2.5, -0.0, 1e300, True, None, "1.0", (3.0,)]})) == (
        '{"a": [1, 2.5, 0, 1e+300, true, null, "1.0", [3]]}'
    )
    assert canonical(strict_loads("10000000000000000000000")) == canonical(strict_loads("1e22"))
