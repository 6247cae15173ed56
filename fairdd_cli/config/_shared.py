"""The options that several commands have: each is declared once."""

from typing import Any

from fairdd_cli.config._options import option
from fairdd_cli.errors import UsageError
from fairdd_cli.registry import LARGEST

SAMPLINGS = ("proportional", "balanced")
PRECISIONS = ("fp32", "tf32", "bf16")
RESIDENCIES = ("auto", "device", "memory", "disk")
COMPILES = ("auto", "on", "off")
LARGEST_SEED = LARGEST


def read_seed(text: str) -> int:
    """The seed that `text` stands for; raises UsageError for one that a file cannot hold."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 25 else -1
    if not 0 <= number <= LARGEST_SEED:
        raise UsageError(f"--seed: expected a whole number from 0 to {LARGEST_SEED} (63 bits), found '{text[:40]}'")
    return number


def seed(help: str = "Random seed: the same seed gives the same file.") -> Any:
    """The key of all random draws."""
    return option(help, default=0, metavar="N", parse=read_seed, affects="seed")


def device() -> Any:
    """The device of a command that computes."""
    return option("Where to compute: auto, cpu, cuda or cuda:N.", default="auto", metavar="DEVICE", affects="digits")


def precision() -> Any:
    """The numerical precision."""
    help = "Numerical precision: fp32, or the faster tf32 (GPU only) and bf16."
    return option(help, default="fp32", choices=PRECISIONS, affects="digits")


def deterministic() -> Any:
    """Whether results repeat bit for bit on a GPU."""
    return option("On a GPU, use only algorithms that give the same bits every time.", default=False)


def compile() -> Any:
    """Whether networks are compiled."""
    help = "Compile networks: auto does so where it pays for the length of the run."
    return option(help, default="auto", choices=COMPILES, affects="digits")


def residency() -> Any:
    """Where images are kept."""
    help = "Where the data set is kept: on the device, in memory, or on disk (read batch by batch)."
    return option(help, default="auto", choices=RESIDENCIES)


def checkpoint_every() -> Any:
    """The time between two checkpoints."""
    help = "Time between two checkpoints beside the output; the same command given again continues from the last one."
    return option(help, default=60, metavar="SECONDS", minimum=0)


def restart() -> Any:
    """Whether to start afresh."""
    return option("Discard the checkpoint of an interrupted run.", default=False)


def recipe(*packaged: str) -> Any:
    """The file that gives defaults, or one of the `packaged` recipes that have some for the command."""
    inside = f", or of a recipe inside fairdd ({', '.join(packaged)})" if packaged else ""
    help = f"Take defaults from this command's section of a YAML file{inside}."
    return option(help, default=None, metavar="FILE|NAME" if packaged else "FILE", default_text="none")


def force() -> Any:
    """Whether an output may be replaced."""
    return option("Replace an output that exists.", default=False)


def quiet() -> Any:
    """Whether to say nothing."""
    return option("Print nothing but errors.", "-q", default=False)


def verbose() -> Any:
    """Whether to say more."""
    return option("Print more, and the traceback of an error.", "-v", default=False)
