"""The options of `fairdd import`."""

from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._options import argument, option
from fairdd_cli.errors import UsageError
from fairdd_cli.registry import METHODS, parse_number

VALUES = ("auto", "normalised", "unit", "levels")


def read_channels(text: str) -> tuple[float, ...]:
    """The numbers, one for each channel, that `text` lists; raises UsageError for anything else."""
    try:
        return tuple(parse_number(number.strip(), float) for number in text.split(","))
    except ValueError as error:
        raise UsageError(f"expected a number for each channel, such as 0.49,0.48,0.45, found '{text}'") from error


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which file of another tool to read, and what is known of it that it does not say."""

    file: str = argument("A .pt, .npz or .safetensors, or a folder with a folder of PNG for each class.", "FILE")
    data: str = option("Data set that the synthetic set was made from or is to be tested on.", metavar="DATA")
    protocol: str = option(
        "Method whose protocol 'fairdd evaluate' will train by; dc is gm.",
        default="dm",
        choices=METHODS.names,
        aliases=METHODS.aliases,
        affects="result",
    )
    values: str = option(
        "What the numbers in the images are: normalised by mean and std, in 0…1 (unit), or in 0…255 (levels).",
        default="auto",
        choices=VALUES,
        affects="result",
    )
    mean: str | None = option(
        "Mean of each channel that normalised images were normalised by, in [0, 1] units.",
        default=None,
        metavar="M,M,M",
        default_text="what FILE says, else that of DATA",
        affects="result",
    )
    std: str | None = option(
        "Standard deviation of each channel, likewise.",
        default=None,
        metavar="S,S,S",
        default_text="what FILE says, else that of DATA",
        affects="result",
    )
    labels: str | None = option(
        "A .pt or .npy with the label of each image.",
        default=None,
        metavar="FILE",
        default_text="those in FILE or beside it, else class after class",
        affects="result",
    )
    repetition: int = option(
        "Which one to take where FILE holds several sets, as DC saves them.",
        default=1,
        metavar="N",
        minimum=1,
        affects="result",
    )
    factor: int = option(
        "Multi-formation (IDC): N x N training images inside each stored one.",
        default=1,
        metavar="N",
        minimum=1,
        affects="result",
    )
    method: str | None = option(
        "Method to name in reports.", default=None, metavar="NAME", default_text="what FILE says, else imported"
    )
    fairness: str | None = option(
        "Fairness strategy to name in reports.",
        default=None,
        metavar="NAME",
        default_text="what FILE says, else vanilla",
    )
    output: str | None = option(
        "Where to write; - is stdout.", "-o", default=None, metavar="SYN", default_text="DATA.FILE.h5"
    )
    recipe: str | None = shared.recipe()
    force: bool = shared.force()
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()
