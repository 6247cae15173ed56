"""`python -m fairdd_cli` and the console script `fairdd`."""

import io
import os
import sys
from typing import NoReturn

from fairdd_cli.system import configure_threads


def open_standard_streams() -> None:
    """Makes standard streams that can be used of those that were closed, and lets no letter fail to be written.

    A closed one would give its number to the next file that is opened, which then got what is printed. In its place
    comes a file that cannot be read, or written: whoever needs it fails in good order.
    """
    for number, name, mode in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


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
