"""Data sets, one file each.

A file `NAME.py` holds one function `source(request: Request) -> Source`, and OPTIONS, the fields of a Request that
it takes.
"""

from fairdd_cli.registry import DATASETS

__all__ = ["DATASETS"]
