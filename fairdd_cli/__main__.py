"""`python -m fairdd_cli` and the console script `fairdd`."""

from fairdd_cli.cli import main

if __name__ == "__main__":
    main()
