"""How artifacts appear where somebody looks at them: in a notebook as tables and pictures, in a terminal as text."""

from abc import ABC, abstractmethod

from fairdd_cli.artifacts._input import shown
from fairdd_cli.registry import display


class ShowsItself(ABC):
    """An artifact that a notebook or an interactive Python shows by what is in it rather than by its fields."""

    path: str

    def __repr__(self) -> str:
        return display().as_text(self)

    def _repr_html_(self) -> str:
        return display().as_html(self)

    @property
    def where(self) -> str:
        """What messages call it: the file that it was read from, or what it is where it is in memory only."""
        return f"'{shown(self.path)}'" if self.path else f"the {self._in_memory()}"

    @abstractmethod
    def _in_memory(self) -> str:
        """What it is, in words, where it has no file."""
