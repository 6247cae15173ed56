"""Options are known in one place: what help, recipes, records, pages and the manual make of them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Fairdd

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.config import COMMANDS, DistillConfig, EvaluateConfig, command_words, option_table, options, record
from fairdd_cli.config._shared import COMPILES, LARGEST_SEED, PRECISIONS, RESIDENCIES, SAMPLINGS
from fairdd_cli.config.distill import INITS
from fairdd_cli.config.make_dataset import TEST_GROUPS
from fairdd_cli.config.recipe import NODE_LIMIT, SIZE_LIMIT, read_recipe, recipe_names
from fairdd_cli.config.report import EMPTY_CELLS
from fairdd_cli.distill import resolve_config, run_fingerprint
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Runtime

ROOT = Path(__file__).parents[1]


def recipe(folder: Path, text: str | bytes) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_defaults_in_help_are_those_of_the_methods() -> None:
    stored = ROOT / "fairdd_cli" / "config" / "defaults.json"
    program = [sys.executable, str(ROOT / "recipes" / "make_defaults.py")]
    assert stored.read_text() == subprocess.run(program, capture_output=True, text=True, check=True).stdout


def test_help_names_the_packaged_recipes_that_have_something_for_a_command() -> None:
    for command, config in COMMANDS.items():
        if "recipe" not in options(config):
            continue
        shown = options(config)["recipe"].help
        named = shown.partition("inside fairdd (")[2].partition(")")[0].split(", ")
        assert [*filter(None, named)] == [name for name in recipe_names() if read_recipe(name, command)]


def test_choices_are_what_the_work_knows() -> None:
    from fairdd_cli import metrics, runtime
    from fairdd_cli.datasets._source import ALL_GROUPS
    from fairdd_cli.matching import initialisation, sampling

    assert (*SAMPLINGS,) == tuple(sampling.SAMPLINGS)
    assert set(INITS) == set(initialisation.INITS)
    assert (PRECISIONS, RESIDENCIES, COMPILES) == (runtime.PRECISIONS, runtime.RESIDENCIES, runtime.COMPILES)
    assert metrics.EMPTY_CELLS == EMPTY_CELLS
    assert ALL_GROUPS in TEST_GROUPS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_table_of_the_manual(command: str) -> None:
    table = option_table(COMMANDS[command])
    for entry in options(COMMANDS[command]).values():
        assert f"`{entry.flag}`" in table
        assert entry.help.replace("|", r"\|") in table.replace(r"\<", "<")


def test_a_command_line_gives_the_options_back() -> None:
    values = {"data": "a b.h5", "method": "dm", "ipc": 3, "fair": True, "force": False, "hyper": {"momentum": 0.1}}
    words = command_words("distill", DistillConfig, values)
    assert words == ["fairdd", "distill"] + [
        "a b.h5",
        *["--method", "dm", "--ipc", "3", "--fair", "-O", "momentum=0.1"],
    ]
    words = command_words("evaluate", EvaluateConfig, {"network": ("mlp", "vit"), "synthetic": "s.h5"})
    assert words == ["fairdd", "evaluate", "s.h5", "--network", "mlp", "--network", "vit"]


def test_the_record_holds_what_the_result_depends_on() -> None:
    config = DistillConfig(data="data.h5", method="dm", ipc=1)
    assert {"method", "ipc", "fairness", "sampling", "init", "hyper"} <= set(record(DistillConfig, config))
    assert not {"quiet", "force", "output", "device", "seed", "fair"} & set(record(DistillConfig, config))
    assert set(record(DistillConfig, config, "digits")) == {"device", "precision", "compile"}


def test_a_recipe_is_read_as_it_would_be_typed(tmp_path: Path) -> None:
    text = "distill: {compile: off, seed: 010, fair: yes, quiet: 'no', option: {a: off, b: 010}, output: ~, method: no}"
    with pytest.raises(UsageError, match="line 1: unknown method 'no'"):
        read_recipe(recipe(tmp_path, text), "distill")
    found = read_recipe(recipe(tmp_path, text.replace(", method: no", "")), "distill")
    assert found == {"compile": "off", "seed": 10, "fair": True, "quiet": False, "hyper": ["a=off", "b=010"]}
    assert read_recipe(recipe(tmp_path, "evaluate: {network: [on, 1.0]}"), "evaluate") == {"network": ["on", "1.0"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("distill:\n  ipc: 1\ndistill:\n  ipc: 2\n", "line 3: 'distill' is given twice"),
        ("distill:\n  ipc: 1\n  ipc: 2\n", "line 3: 'ipc' is given twice"),
        ("distill:\n  option: {a: 1}\n  O: {b: 1}\n", "line 3: 'O' is given twice"),
        ("distill:\n\tipc: 1\n", "line 2: a tab; indent with spaces"),
        ("distill:\n  ipc: ten\n", "line 2: --ipc: expected a whole number, found 'ten'"),
        ("distill:\n  force: maybe\n", "line 2: --force: expected true or false"),
        ("distill:\n  network: {a: 1}\n", "line 2: should be one value"),
        ("distill:\n  iteration: 1\n", "did you mean 'iterations'"),
        ("destill:\n  ipc: 1\n", "did you mean 'distill'"),
        ("- distill\n", "line 1: a recipe should hold a section for each command"),
        ("distill: 3\n", "line 1: the section 'distill' should hold options"),
        ("", "is empty"),
        ("distill: [", "recipe.yaml', line 1"),
        (b"distill: \xff", "is not text in UTF-8"),
        (f"distill: {'[' * 5000}", "more than 8 levels"),
        (f"distill: {{network: {'x' * SIZE_LIMIT}}}", "is larger than 128 KiB"),
        ("distill: {? [a] : 1}", "a key should be a word"),
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n", "unknown section 'a'"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_said_with_its_line(text: str | bytes, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(recipe(tmp_path, text), "distill")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 600


NO_WHOLE_NUMBERS = (
    "1_0",
    "1:30",
    "0x10",
    "0o10",
    "0b1",
    "1e3",
    "1.0",
    ".5",
    "\uff11\uff10",
    "+-1",
    ".inf",
    "true",
    "1 0",
)
NO_NUMBERS = (
    "0_0.1",
    "1:30",
    "0x1p-1",
    ".inf",
    "-.inf",
    "Infinity",
    "inf",
    ".nan",
    "NaN",
    "nan",
    "1e999",
    "\u0660.\u0665",
    "yes",
)


@pytest.mark.parametrize(("option", "values"), [("ipc", NO_WHOLE_NUMBERS), ("group-noise", NO_NUMBERS)])
def test_what_only_yaml_or_python_take_for_a_number_is_refused_with_its_line(
    option: str, values: tuple[str, ...], tmp_path: Path
) -> None:
    kind = "a whole number" if option == "ipc" else "a number"
    for value in values:
        with pytest.raises(UsageError) as caught:
            read_recipe(recipe(tmp_path, f"distill:\n  fair: on\n  {option}: {value}\n"), "distill")
        assert f"recipe.yaml', line 3: --{option}: expected {kind}, found '{value}'" in str(caught.value)


def test_numbers_of_a_recipe_are_those_that_stand_there(tmp_path: Path) -> None:
    for value, whole in (("010", 10), ("+7", 7), ("'12'", 12)):
        assert read_recipe(recipe(tmp_path, f"distill: {{ipc: {value}}}"), "distill") == {"ipc": whole}
    for value, number in ((".5", 0.5), ("1e-1", 0.1), ("5.e-1", 0.5), ("0", 0.0), ("1", 1.0)):
        assert read_recipe(recipe(tmp_path, f"distill: {{group-noise: {value}}}"), "distill") == {"group_noise": number}
    for value, limit in (("ipc: 0", "at least 1"), ("ipc: -3", "at least 1"), ("group-noise: 1.5", "at most 1")):
        with pytest.raises(UsageError, match=f"line 1: --.*: expected {limit}, found"):
            read_recipe(recipe(tmp_path, f"distill: {{{value}}}"), "distill")
    for digits in (str(2**63), "9" * 5000):
        with pytest.raises(UsageError, match="line 1: --ipc: expected a whole number of at most 63 bits"):
            read_recipe(recipe(tmp_path, f"distill: {{ipc: {digits}}}"), "distill")


def test_the_command_line_and_its_specifications_read_numbers_by_the_same_rule(fairdd: Fairdd) -> None:
    words = ("distill", "none.h5", "--method", "dm")
    cases = [
        (("--ipc", "1_0"), "--ipc: expected a whole number, found '1_0'"),
        (("--ipc", "0"), "--ipc: expected at least 1, found '0'"),
        (("--ipc", "1", "--group-noise", "nan"), "--group-noise: expected a number, found 'nan'"),
    ]
    for more, expected in cases:
        done = fairdd(*words, *more, check=False)
        assert (done.returncode, expected in done.stderr, done.stderr.count("\n")) == (2, True, 1)
    config = DistillConfig(data="none.h5", method="dm", ipc=1)
    for name, value in (
        ("hyper", {"momentum": "0_1"}),
        ("hyper", {"momentum": "nan"}),
        ("network", "convnet:width=1_6"),
    ):
        with pytest.raises(UsageError, match=r"0_1|nan|1_6"):
            resolve_config(replace(config, **{name: value}))


def test_aliases_of_a_recipe_cannot_make_it_large(tmp_path: Path) -> None:
    several = ", ".join(["*v"] * 200)
    lines = [f"evaluate:\n  network: &v [{'n, ' * 200}n]"]
    lines += [f"distill:\n  option: {{{', '.join(f'k{n}: {n}' for n in range(NODE_LIMIT + 1))}}}"]
    with pytest.raises(UsageError, match="more than"):
        read_recipe(recipe(tmp_path, lines[1]), "distill")
    with pytest.raises(UsageError, match="should be one value"):
        read_recipe(recipe(tmp_path, f"{lines[0]}\nreport:\n  sort: [{several}]"), "report")


def test_a_recipe_inside_the_package_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "paper" in recipe_names()
    assert read_recipe("paper", "distill") == {"sampling": "proportional", "init": "real"}
    with pytest.raises(UsageError, match=r"unknown recipe 'papr': did you mean 'paper'\?"):
        read_recipe("papr", "distill")
    Path("paper").write_text("distill: {ipc: 3}")  # a file goes before a name
    assert read_recipe("paper", "distill") == {"ipc": 3}


def test_a_folder_does_not_hide_a_packaged_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best").mkdir()
    assert read_recipe("best", "distill")["match"] == "cells"


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("command", COMMANDS)
def test_every_recipe_inside_the_package_loads(name: str, command: str) -> None:
    read_recipe(name, command)


@pytest.mark.parametrize("seed", ["-1", "x", "1.5", str(LARGEST_SEED + 1), "9" * 5000])
def test_a_seed_that_no_file_can_hold_is_refused(seed: str) -> None:
    with pytest.raises(UsageError, match="--seed: expected a whole number from 0"):
        options(DistillConfig)["seed"].read(seed)
    assert options(DistillConfig)["seed"].read(str(LARGEST_SEED)) == LARGEST_SEED


def test_list_tells_what_is_on_offer(fairdd: Fairdd) -> None:
    everything = json.loads(fairdd("list", "--format", "json").stdout)
    assert set(everything) == {"methods", "strategies", "decodings", "datasets", "networks", "metrics"}
    assert all(title for entries in everything.values() for title in entries.values())
    gm = json.loads(fairdd("list", "methods", "dc", "-f", "json").stdout)
    assert (gm["name"], gm["aliases"]) == ("gm", ["dc"])
    assert {entry["name"]: entry["by_ipc"] for entry in gm["hyper_parameters"]}["outer_loop"]["10"] == 10
    assert "width=128" in fairdd("list", "networks", "convnet").stdout
    done = fairdd("list", "methods", "dmm", check=False)
    assert done.returncode == 2
    assert "did you mean 'dm'" in done.stderr
    assert "did you mean 'methods'" in fairdd("list", "method", check=False).stderr


def test_a_checkpoint_is_told_apart_by_every_option_that_matters(toy: BiasedDataset) -> None:
    newer = {"match": "cells", "decoding": "frequency", "trained_networks": 1, "cross_entropy": 0.1, "validate": 5}
    config = resolve_config(DistillConfig(data="toy.h5", method="dc", ipc=1, fair=True, **newer))  # type: ignore[arg-type]
    fingerprint = run_fingerprint(config, toy, Runtime(torch.device("cpu")))
    matters = {name for name, entry in options(DistillConfig).items() if entry.affects in ("result", "digits")}
    assert matters <= set(fingerprint)
    assert (fingerprint["method"], fingerprint["fairness"], fingerprint["sampling"]) == ("gm", "fairdd", "balanced")
    assert not {"data", "output", "quiet", "recipe"} & set(fingerprint)
    # What version 0.1.0 does not know is left out where it is not used, so that its checkpoints can be continued.
    plain = resolve_config(DistillConfig(data="toy.h5", method="dc", ipc=1))
    assert not set(newer) & set(run_fingerprint(plain, toy, Runtime(torch.device("cpu"))))
