"""The options of `fairdd evaluate`."""

from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._defaults import per_method
from fairdd_cli.config._options import argument, option
from fairdd_cli.registry import METHODS

# The options that change the training protocol, by what a TrainingConfig calls them.
PROTOCOL = {name: name for name in ("epochs", "learning_rate", "augmentation")} | {"batch": "batch_size"}


def _default_epochs() -> str:
    return f"{per_method('evaluation', 'epochs')()}; whole data set 30"


def _default_learning_rate() -> str:
    return f"{per_method('evaluation', 'learning_rate')()}, or what mtt learned"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which networks to train on what, and how, as the user says it; None leaves a choice to the synthetic set."""

    synthetic: str = argument(
        "Synthetic set from distill, or a data set for the whole-data baseline; - is stdin.", "SYN"
    )
    data: str | None = option(
        "Data set with the test split.", default=None, metavar="DATA", default_text="where SYN says"
    )
    split: str = option(
        "Split to test on: val is what make-dataset --holdout sets apart, to choose hyper-parameters on.",
        default="test",
        choices=("test", "val"),
        affects="result",
    )
    network: tuple[str, ...] = option(
        "Network to train, such as vit or convnet:width=32; repeatable. See 'fairdd list networks'.",
        default=(),
        metavar="NAME[:KEY=VALUE,…]",
        default_text="the one that SYN was distilled with",
        affects="result",
    )
    sampling: str = option(
        "How the images of a whole data set are drawn for an epoch: as the groups occur, or evenly over those of each "
        "class.",
        default="proportional",
        choices=shared.SAMPLINGS,
        affects="result",
    )
    seeds: int = option(
        "Number of networks (seeds) per architecture.", default=10, metavar="N", minimum=1, affects="result"
    )
    protocol: str | None = option(
        "Method whose training protocol to take; dc is gm. The options below replace parts of it.",
        default=None,
        choices=METHODS.names,
        aliases=METHODS.aliases,
        default_text="that of SYN",
        affects="result",
    )
    epochs: int | None = option(
        "Epochs of training.",
        default=None,
        metavar="N",
        minimum=1,
        default_text=_default_epochs,
        affects="result",
    )
    learning_rate: float | None = option(
        "Learning rate.",
        default=None,
        metavar="RATE",
        minimum=0,
        default_text=_default_learning_rate,
        affects="result",
    )
    batch: int | None = option(
        "Batch size.",
        default=None,
        metavar="N",
        minimum=1,
        default_text=per_method("evaluation", "batch"),
        affects="result",
    )
    augmentation: str | None = option(
        "Augmentations joined by _, one of which is applied to each batch; + joins stages; none turns them off.",
        default=None,
        metavar="NAMES",
        default_text=per_method("evaluation", "augmentation"),
        affects="result",
    )
    output: str | None = option(
        "Where to write, .json or .h5; - is stdout.",
        "-o",
        default=None,
        metavar="FILE",
        default_text="runs/SYN.json",
    )
    seed: int = shared.seed()
    residency: str = shared.residency()
    device: str = shared.device()
    precision: str = shared.precision()
    deterministic: bool = shared.deterministic()
    compile: str = shared.compile()
    checkpoint_every: float = shared.checkpoint_every()
    restart: bool = shared.restart()
    recipe: str | None = shared.recipe("paper")
    force: bool = shared.force()
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()
