"""Where the files of a published data set lie, and what to say when they don't."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairdd_cli.errors import UsageError, first_line


@dataclass(frozen=True)
class Layout:
    """The files that a data set is made of.

    `entries` gives, by the path that people are shown, the patterns (relative to a base, as Path.glob knows
    them) of which one must match. `bases` are the folders under --root that are tried in turn. `fetch` tells how
    to get the files.
    """

    name: str
    fetch: str
    bases: Sequence[str]
    entries: Mapping[str, Sequence[str]]

    def require(self, root: Path | None, download: bool = False) -> dict[str, Path]:
        """The first match of every entry below `root` (data); UsageError with the tree expected where one is missing.

        With `download` the error says, too, that nothing can be downloaded.
        """
        root = root or Path("data")
        found = self.find(root)
        if found is None:
            raise self.missing(root, download)
        return found

    def find(self, root: Path) -> dict[str, Path] | None:
        """The first match of every entry, under the first base that has them all."""
        for base in self.bases:
            found = self._matches(root / base)
            if all(found.values()):
                return {entry: path for entry, path in found.items() if path}
        return None

    def missing(self, root: Path, download: bool = False) -> UsageError:
        """The error that shows the tree expected, what was found of it and how to get the rest."""
        found = max(
            (self._matches(root / base) for base in self.bases), key=lambda match: sum(map(bool, match.values()))
        )
        width = max(map(len, self.entries))
        tree = [f"  {root}/{entry:<{width}}  {'found' if found[entry] else 'missing'}" for entry in self.entries]
        refusal = "--download cannot fetch it. " if download else ""
        return UsageError(
            f"{self.name} is not complete under '{root}' (--root). {refusal}{self.fetch}",
            "Expected:",
            *tree,
        )

    def _matches(self, base: Path) -> dict[str, Path | None]:
        return {entry: self._first(base, patterns) for entry, patterns in self.entries.items()}

    @staticmethod
    def _first(base: Path, patterns: Sequence[str]) -> Path | None:
        return next((path for pattern in patterns for path in base.glob(pattern)), None)


@contextmanager
def fetching(name: str, root: Path) -> Iterator[None]:
    """A block in which torchvision downloads `name` into `root`; its failures become a line."""
    try:
        yield
    except (OSError, RuntimeError, EOFError) as error:
        raise UsageError(f"--download: {name} could not be fetched into '{root}': {first_line(error)}") from error
