"""`fairdd` in a fork of a process that has torch loaded already: what its start costs, most tests need only once.

    python tests/forked.py    # a line of JSON for each command: its words, folder and streams; prints the exit status

A fork is a process like another, with its own streams, folder and end; only what a command loads, and when, cannot be
seen there. Tests of that start the program itself.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("fairdd")
LOADED = ("torch._dynamo", "fairdd_cli.cli", "fairdd_cli.distill", "fairdd_cli.evaluate", "fairdd_cli.make_dataset")
TIMEOUT = 300  # seconds


class Forked:
    """Runs commands one after another, each in a fork."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._server: subprocess.Popen[str] | None = None

    def run(self, words: Sequence[str], cwd: Path, spool: Path) -> subprocess.CompletedProcess[str]:
        """What `fairdd` with `words` did in `cwd`; what it printed passes through files in `spool`."""
        if _without_test(os.environ) != _without_test(self._environment):
            command = [str(PROGRAM), *words]
            return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        server = self._server = self._server or subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdin is not None
        assert server.stdout is not None
        out, err = spool / "out", spool / "err"
        request = {"words": list(words), "cwd": str(cwd), "out": str(out), "err": str(err)}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())

    def close(self) -> None:
        """Ends the process."""
        if self._server is not None:
            self._server.communicate()


def _without_test(environment: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "PYTEST_CURRENT_TEST"}


def _become(words: Sequence[str], cwd: str, out: str, err: str) -> None:
    """Turns this fork into the command `words` in `cwd`, with the files `out` and `err` as its streams."""
    from fairdd_cli.__main__ import main

    os.chdir(cwd)
    signal.alarm(TIMEOUT)
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (name, flags) in enumerate(((os.devnull, os.O_RDONLY), (out, new), (err, new))):
        opened = os.open(name, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # in the place of the one that a process of this kind closes
    sys.argv = [str(PROGRAM), *words]
    main()


def serve() -> None:
    """Forks for every request until the input ends.

    A process of `multiprocessing` ends without taking apart what was loaded, which would cost more than most commands.
    """
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        process = get_context("fork").Process(target=_become, kwargs=json.loads(line))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    serve()
