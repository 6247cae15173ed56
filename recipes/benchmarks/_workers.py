"""Processes that a benchmark keeps ready and asks for one measurement after another."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """A Python process in `folder` that first says a line, and its seconds and peak memory whenever it is asked."""

    def __init__(self, words: list[str], folder: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, *words], text=True, cwd=folder, env=environment, **pipes)
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("no pipe to the worker")
        self._there, self._back = self._process.stdin, self._process.stdout
        self.said = self._line()
        self.seconds: list[float] = []
        self.peak = 0
        if self.said == "none":
            self.stop()

    def _line(self) -> str:
        line = self._back.readline().strip()
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}")
        return line

    def measure(self) -> None:
        """Times the piece once more."""
        self._there.write("again\n")
        self._there.flush()
        seconds, peak = self._line().split()
        self.seconds.append(float(seconds))
        self.peak = int(peak)

    def stop(self) -> None:
        """Ends the process."""
        self._there.close()
        self._back.close()
        self._process.wait()
