"""`python -m fairdd_cli` and the console script `fairdd`."""

import os
import sys
from typing import NoReturn

from fairdd_cli.system import configure_threads


def main() -> NoReturn:
    """Runs the command line. An interrupt while it is still being loaded ends it as quietly as later ones do."""
    configure_threads()
    try:
        from fairdd_cli.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("fairdd: interrupted\n")
        os._exit(130)  # what is half loaded might not end in good order
    run()


if __name__ == "__main__":
    main()
