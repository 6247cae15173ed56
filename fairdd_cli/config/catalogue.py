"""The options of `fairdd list`."""

from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._options import argument, option

KINDS = ("methods", "strategies", "decodings", "datasets", "networks", "metrics")
FORMATS = ("table", "json")


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """What to list: everything, one kind, or one entry of it in detail."""

    kind: str | None = argument("Kind to list.", "KIND", default=None, choices=KINDS)
    name: str | None = argument("Entry to describe in detail.", "NAME", default=None)
    format: str = option("Format of the answer.", "-f", default="table", choices=FORMATS)
    verbose: bool = shared.verbose()
