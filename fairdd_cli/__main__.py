"""`python -m fairdd_cli` and the console script `fairdd`."""

import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from fairdd_cli.system import configure_threads

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Messages(io.FileIO):
    """Standard error. What cannot be written there is lost, and the work goes on: its result does not depend on it.

    The terminal may be gone, the disk of a log full, the reader of a pipe away, or behind where it is not waited for.
    """

    def write(self, content: "ReadableBuffer") -> int:
        try:
            written = super().write(content)
        except OSError:
            written = None
        return memoryview(content).nbytes if written is None else written


def open_standard_streams() -> None:
    """Makes standard streams that can be used of those that were closed, and lets no letter or message fail the work.

    A closed one would give its number to the next file that is opened, which then got what is printed. In its place
    comes a file that cannot be read, or written: whoever needs it fails in good order.
    """
    for number, name, mode in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    messages = io.BufferedWriter(_Messages(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(messages, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def main() -> NoReturn:
    """Runs the command line. An interrupt while it is still being loaded ends it as quietly as later ones do."""
    open_standard_streams()
    configure_threads()
    try:
        from fairdd_cli.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("fairdd: interrupted\n")
        os._exit(130)  # what is half loaded might not end in good order
    run()


if __name__ == "__main__":
    main()
