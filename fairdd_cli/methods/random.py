"""Random real images: the baseline that optimises nothing."""

from dataclasses import dataclass

from fairdd_cli.methods._selection import SelectionMethod


@dataclass(frozen=True)
class Method(SelectionMethod):
    """Real images as the initialisation draws them."""

    title = "Real images drawn at random: the baseline that optimises nothing"
