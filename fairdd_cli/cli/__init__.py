"""The command line: one file a subcommand, which parses, calls and renders. Torch is imported inside the commands."""

import os
import signal
import sys
import time
import traceback
from types import FrameType
from typing import Annotated, NoReturn

import typer

from fairdd_cli.cli import terminal
from fairdd_cli.cli.catalogue import list_entries
from fairdd_cli.cli.distill import distill
from fairdd_cli.cli.evaluate import evaluate
from fairdd_cli.cli.import_set import import_set
from fairdd_cli.cli.inspect import inspect
from fairdd_cli.cli.make_dataset import make_dataset
from fairdd_cli.cli.options import as_command
from fairdd_cli.cli.report import report
from fairdd_cli.cli.verify import verify
from fairdd_cli.config import COMMANDS
from fairdd_cli.errors import FairddError, Interrupted, UsageError, one_line
from fairdd_cli.system import __version__, launched_by_torchrun

app = typer.Typer(
    name="fairdd",
    rich_markup_mode=None,  # plain help answers in half the time, and shows brackets as they are
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Run 'fairdd COMMAND --help' for the options of a command. Results go to stdout, messages to stderr.",
)
for name, run, summary in (
    ("make-dataset", make_dataset, "Make a biased data set file."),
    ("distill", distill, "Distil it into a few images per class."),
    ("evaluate", evaluate, "Train on them; measure accuracy and fairness."),
    ("import", import_set, "Take over a synthetic set of another tool."),
    ("report", report, "Compare evaluations: table, figures, page."),
    ("inspect", inspect, "Show what a file is and what is in it."),
    ("verify", verify, "Check digests and provenance."),
    ("list", list_entries, "List methods, strategies, data sets, networks."),
):
    app.command(name, short_help=summary)(as_command(COMMANDS[name], run))

# Typer carries its own copy of Click in some versions and not in others; this is its base error in either.
PARSER_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
INTERRUPTED = 130
GRACE_SECONDS = 3.0  # seconds that the others leave to the process that says what is wrong


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fairdd {__version__}")
        raise typer.Exit


@app.callback()
def fairdd(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Distil a large, biased image data set into a few synthetic images per class that train fair models."""


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 the work failed, 2 bad usage or input, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # which nohup and a shell's `&` and `trap ''` ask for
            signal.signal(number, _interrupt)
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        with terminal.writing():
            sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except (Interrupted, typer.Abort) as error:
        _fail("interrupted", INTERRUPTED, error)
    except BrokenPipeError:
        _drop_output()  # the reader went away: nobody to tell
        sys.exit(1)
    except FairddError as error:
        _fail(str(error), error.exit_code, error)
    except PARSER_ERROR as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        context = getattr(error, "ctx", None)
        hint = f"\nSee '{context.command_path} --help'." if context else ""
        _fail(" ".join(message.split()) + hint, UsageError.exit_code, error)
    except MemoryError as error:
        _fail("out of memory; a smaller --ipc, --limit or network, or --residency disk, needs less", 1, error)
    except Exception as error:  # the last resort: a line for the user, the traceback on request
        from fairdd_cli.artifacts import has_temporary_folder

        if isinstance(error, OSError) and not has_temporary_folder():  # for which libraries ask at any time
            _fail("no folder for temporary files can be written; set TMPDIR to one that can", 1, error)
        _fail(
            f"unexpected {type(error).__name__}: {one_line(str(error))} (please report this; --verbose shows where)",
            1,
            error,
        )


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first signal lets the run save its state, the second cuts that short, the third ends the process."""
    terminal.signals.append(number)
    if len(terminal.signals) > 2:
        os._exit(INTERRUPTED)
    raise Interrupted


def _drop_output() -> None:
    """Lets standard output lead nowhere: what could not be written on it would fail once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int, error: BaseException) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    if {"-v", "--verbose"} & set(sys.argv):
        sys.stderr.write(terminal.harmless(traceback.format_exc()))
    # An interrupt in the midst of an import or of a library's own code may come out as another error.
    interrupted = status == INTERRUPTED or bool(terminal.signals)
    # The processes of a job fail alike for what was asked of them; one says it.
    rank = os.environ["RANK"] if launched_by_torchrun() else None
    alike = interrupted or status == UsageError.exit_code
    if rank in (None, "0") or not alike:
        terminal.error("\n".join(["interrupted" if interrupted else message, *getattr(error, "__notes__", ())]))
    elif not interrupted:  # torchrun ends all as soon as one is gone: the one that speaks goes first
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(GRACE_SECONDS)
    status = INTERRUPTED if interrupted else status
    if rank is not None and not alike:  # to take leave of the others in good order could mean to wait for them
        os._exit(status)
    sys.exit(status)
