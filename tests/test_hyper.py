"""Hyper-parameters: their names, old and new, what is said of them, and what is refused before any work."""

import dataclasses
from collections.abc import Callable

import pytest
from tiny import TINY

from fairdd_cli.errors import UsageError
from fairdd_cli.methods import METHODS
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._description import describe
from fairdd_cli.methods._renamed import RENAMED, with_current_names


def chosen(method: str, ipc: int = 10, **options: str) -> MethodBase:
    made: MethodBase = METHODS.load(method).Method.for_ipc(ipc).with_options(options)
    return made


def test_the_table_of_smallest_options_names_every_method_and_no_other() -> None:
    assert sorted(TINY) == METHODS.names()


@pytest.mark.parametrize("method", METHODS.names())
def test_a_method_says_what_it_is_and_what_each_of_its_options_means(method: str) -> None:
    about = describe(method)
    assert about.title
    assert bool(about.paper) == bool(about.citation) == (method != "random")
    fields = dataclasses.fields(METHODS.load(method).Method)
    assert [each.name for each in about.hyper_parameters] == [field.name for field in fields]
    for each in about.hyper_parameters:
        assert len(each.meaning) > 10
        assert each.source in ("paper", "public code", "fairdd")
        assert each.automatic or each.default not in (0.0, "") or isinstance(each.default, int) or each.unit, each
        for ipc, value in each.by_ipc.items():
            assert getattr(chosen(method, ipc), each.name) == value


def test_a_default_that_depends_on_the_images_per_class_is_listed_for_some_of_them() -> None:
    loops = {each.name: each for each in describe("dc").hyper_parameters}
    assert loops["inner_loop"].by_ipc == {1: 1, 10: 50, 20: 25, 30: 20, 40: 15, 50: 10, 100: 10}
    assert loops["lr_net"].by_ipc == {}
    assert loops["lr_net"].old_names == ("network_learning_rate",)


@pytest.mark.parametrize("method", METHODS.names())
def test_names_of_version_0_1_0_set_what_the_new_names_set(method: str) -> None:
    for old, new in RENAMED.get(method, {}).items():
        value = str(getattr(chosen(method), new) + 1)
        assert chosen(method, **{old: value}) == chosen(method, **{new: value}) != chosen(method)
    if TINY[method]:
        assert chosen(method, lr_img="7") == chosen(method, learning_rate="7")


def test_of_an_old_and_a_new_name_the_later_one_counts() -> None:
    assert chosen("gm", outer="3", outer_loop="4") == chosen("gm", outer_loop="4")


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "expert_epochs among old names": (lambda: chosen("mtt", expert_epochs="3", ahead="1"), "train_epochs long now"),
    "expert_epochs that only experts can have": (lambda: chosen("mtt", expert_epochs="50"), "train_epochs long now"),
    "experts that end too early": (lambda: chosen("mtt", train_epochs="20"), "train_epochs=20 is too few"),
    "a start that no expert has": (lambda: chosen("mtt", max_start_epoch="50"), "train_epochs=50 is too few"),
    "no step size": (lambda: chosen("mtt", lr_init="0"), "must be above 0"),
    "an unknown name": (lambda: chosen("mtt", sin_steps="3"), "did you mean 'syn_steps'"),
    "a loop of no steps": (lambda: chosen("gm", outer="0"), "-O outer=0: expected a number of at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_the_data_are_read(case: str) -> None:
    refused, reason = REFUSED[case]
    with pytest.raises(UsageError) as error:
        refused()
    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_expert_epochs_has_the_meaning_of_the_public_code() -> None:
    found = chosen("mtt", expert_epochs="3", train_epochs="30")
    assert (found.expert_epochs, found.train_epochs) == (3, 30)  # type: ignore[attr-defined]
    assert chosen("mtt", ahead="1") == chosen("mtt", expert_epochs="1")
    assert chosen("mtt", expert_epochs="5", syn_steps="10").expert_epochs == 5  # type: ignore[attr-defined]


def test_a_count_may_be_zero_where_that_means_something() -> None:
    assert chosen("dream", interval="0").interval == 0  # type: ignore[attr-defined]


def test_options_stored_by_version_0_1_0_are_read_under_their_new_names() -> None:
    stored = {"learning_rate": 100.0, "unrolled": 30, "ahead": 2, "max_start": 20, "experts": 100, "expert_epochs": 50}
    found = with_current_names("mtt", stored)
    assert found == {
        **{"learning_rate": 100.0, "syn_steps": 30, "expert_epochs": 2, "max_start_epoch": 20, "num_experts": 100},
        "train_epochs": 50,
    }
    assert with_current_names("mtt", found) == found
    assert with_current_names("gm", {"outer": 1, "inner": 2}) == {"outer_loop": 1, "inner_loop": 2}
    assert with_current_names("another", {"outer": 1}) == {"outer": 1}
