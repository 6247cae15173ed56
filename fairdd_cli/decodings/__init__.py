"""Decodings, one file each: how the stored numbers of a synthetic set become training images.

A file `NAME.py` holds one class `Decoding` (`_base.py`). Its fields are the options of a specification
`NAME:key=value`; what all stored images share, such as the maps of the groups, stands in its tables, which are
fitted to the real images once. Every decoding may cut its images into tiles (multi-formation, `factor`).
"""

from fairdd_cli.decodings._base import DecodingBase
from fairdd_cli.decodings._codec import (
    Codec,
    ShownInGroups,
    cut_tiles,
    join_tiles,
    load_decoding,
    parse_decoding,
    stored_codec,
)
from fairdd_cli.registry import DECODINGS

__all__ = [
    "DECODINGS",
    "Codec",
    "DecodingBase",
    "ShownInGroups",
    "cut_tiles",
    "join_tiles",
    "load_decoding",
    "parse_decoding",
    "stored_codec",
]
