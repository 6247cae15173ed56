"""Data sets, one file each.

A file `NAME.py` holds one function `source(request: Request) -> Source`.
"""

from fairdd_cli.registry import Registry

DATASETS = Registry("data set", "fairdd_cli.datasets")
