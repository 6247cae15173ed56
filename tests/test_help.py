"""What a command says of itself: its help, how long it will take, where its output is."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Fairdd


def test_help_answers_at_once_and_every_option_is_explained(fairdd: Fairdd) -> None:
    times, environment = [], dict(os.environ)  # which has each run be a child of this process, from its start
    for _ in range(5):  # processor seconds: other work on the machine must not decide
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        fairdd("--help", env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert 0.01 < min(times) < 0.3
    assert fairdd().stdout == fairdd("--help").stdout
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fairdd_cli", "distill", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert " torch" not in done.stderr


def test_a_long_run_says_early_how_long_it_will_take(fairdd: Fairdd, data: Path) -> None:
    program = Path(sys.executable).with_name("fairdd")
    with subprocess.Popen(
        [str(program), "distill", "data.h5", "--method", "dm", "--ipc", "10", "-o", "long.h5"],
        cwd=data.parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "about" in line:
                break
        process.terminate()
        assert "on this machine" in line
        process.stderr.read()
        assert process.wait() == 130
    assert not (data.parent / "long.h5").exists()


@pytest.mark.parametrize("command", ["make-dataset", "distill", "evaluate", "report", "inspect"])
def test_every_option_has_help_that_gives_its_default(command: str) -> None:
    import typer

    from fairdd_cli.cli import app

    group = typer.main.get_command(app)
    for parameter in group.commands[command].params:  # type: ignore[attr-defined]
        if parameter.name == "help":
            continue
        assert parameter.help, parameter.name
        told = "(default:" in parameter.help or parameter.default is not None or parameter.required
        assert told or parameter.is_flag, f"{parameter.name} does not tell its default"


def test_a_run_whose_loss_is_nothing_says_where_its_output_is(fairdd: Fairdd, data: Path) -> None:
    words = ["distill", "data.h5", "--method", "random", "--ipc", 1, "--iterations", 3, "-o", "r.h5"]
    assert fairdd(*words).stdout == "r.h5\n"
