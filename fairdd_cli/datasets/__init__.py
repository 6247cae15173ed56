"""Data sets, one file each.

A file `NAME.py` holds one function `source(request: Request) -> Source`, and OPTIONS, the fields of a Request that
it takes. A constant that is called as one of them in capitals (BIAS_RATIO) is its default there. FETCH, or the `fetch`
of its LAYOUT, says where the files are had. `fairdd list datasets NAME` and the guide show these.
"""

from fairdd_cli.registry import DATASETS

__all__ = ["DATASETS"]
