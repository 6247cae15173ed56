"""Recipes in the installed program: defaults that the command line overrides."""

import json
from pathlib import Path

from conftest import Fairdd
from evaluations import write

from fairdd_cli.artifacts import read_evaluation, read_synthetic


def test_a_recipe_sets_defaults_that_the_command_line_overrides(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "distill:\n  method: gm\n  ipc: 2\n  iterations: 1\n  network: convnet:width=8\n"
        "  option: {outer: 1, inner: 1}\n"
        "evaluate:\n  epochs: 1\n  seeds: 1\n  network: [convnet:width=4]\n"
    )
    fairdd("distill", "data.h5", "--recipe", "recipe.yaml", "--ipc", 1, "-o", "s.h5", "--quiet")
    synthetic = read_synthetic(str(tmp_path / "s.h5"))
    assert (synthetic.method, synthetic.ipc, synthetic.options["hyper"]["outer_loop"]) == ("gm", 1, 1)
    fairdd("evaluate", "s.h5", "--recipe", "recipe.yaml", "-o", "e.json", "--quiet")
    assert list(read_evaluation(str(tmp_path / "e.json")).confusion) == ["convnet:width=4"]


def test_the_command_line_s_strategy_goes_before_a_recipe_s(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    common = "distill:\n  method: dm\n  ipc: 1\n  iterations: 0\n  network: convnet:width=8\n"
    cases = [("fairness: barycenter", ["--fair"], "fairdd"), ("fair: true", ["--fairness", "vanilla"], "vanilla")]
    for number, (line, words, expected) in enumerate(cases):
        (tmp_path / "recipe.yaml").write_text(f"{common}  {line}\n")
        fairdd("distill", "data.h5", "--recipe", "recipe.yaml", *words, "-o", f"{number}.h5", "--quiet")
        assert read_synthetic(str(tmp_path / f"{number}.h5")).fairness == expected
    (tmp_path / "recipe.yaml").write_text(f"{common}  fairness: vanilla\n  fair: true\n")
    done = fairdd("distill", "data.h5", "--recipe", "recipe.yaml", check=False)
    assert done.returncode == 2
    assert "--fair means --fairness fairdd" in done.stderr


def test_a_recipe_s_options_are_overridden_one_by_one(fairdd: Fairdd, data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "distill: {method: dm, ipc: 1, iterations: 0, option: {learning_rate: 0.5, momentum: 0.1}}\n"
    )
    fairdd("distill", "data.h5", "--recipe", "recipe.yaml", "-O", "momentum=0.2", "-o", "s.h5", "--quiet")
    hyper = read_synthetic(str(tmp_path / "s.h5")).options["hyper"]
    assert (hyper["learning_rate"], hyper["momentum"]) == (0.5, 0.2)


def test_a_recipe_may_have_an_empty_section_and_lists(fairdd: Fairdd, tmp_path: Path) -> None:
    write(tmp_path / "e.json")
    (tmp_path / "recipe.yaml").write_text("distill:\nreport: {group-by: [method, ipc], format: json, sort: ipc}\n")
    assert json.loads(fairdd("report", "e.json", "--recipe", "recipe.yaml").stdout)[0]["ipc"] == 10
    (tmp_path / "recipe.yaml").write_text("report: {group-by: [method, icp]}\n")
    assert "did you mean 'ipc'" in fairdd("report", "e.json", "--recipe", "recipe.yaml", check=False).stderr
    (tmp_path / "recipe.yaml").write_text("report: {formt: json}\n")
    answer = fairdd("report", "e.json", "--recipe", "recipe.yaml", check=False).stderr
    assert "did you mean 'format'? (known: against, bootstrap, confidence," in answer
    assert "recipe, " not in answer.partition("known")[2]
