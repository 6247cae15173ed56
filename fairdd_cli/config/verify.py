"""The options of `fairdd verify`."""

from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._options import argument


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Which files to check."""

    files: tuple[str, ...] = argument("Any files of fairdd.", "FILE…")
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()
