"""fairdd import: a synthetic set that another tool made, as a file that evaluate, inspect and report take."""

from pathlib import Path

from fairdd_cli.cli.terminal import Terminal, end_killed_command, print_path
from fairdd_cli.config import ImportConfig


def import_set(config: ImportConfig) -> None:
    """Bring a synthetic set of another tool into a file of fairdd, checked against its data set.

    Reads what DC, DSA, DM, MTT, IDC, FairDD and DD-Ranking save, and what 'fairdd inspect --export' writes. Nothing
    in a file is unpickled but tensors and plain values. Prints the path written.
    Example: fairdd import res_DM_CIFAR10_ConvNet_10ipc.pt --data data.h5 --method dm-theirs
    """
    from fairdd_cli.artifacts import check_target, lock_output, read_dataset, stem_of, write_synthetic

    file = Path(config.file)
    name = file.name if file.is_dir() else file.stem  # a folder's name has no suffix, whatever dots are in it
    target = f"{stem_of(config.data)}.{name}.h5" if config.output is None else config.output
    if check_target(target, config.force, config.data, config.file):
        end_killed_command(target, config.quiet)
        return

    from fairdd_cli.import_set import run_import

    with lock_output(target), Terminal(config.quiet, config.verbose) as terminal:
        imported = run_import(config, read_dataset(config.data))
        for note in imported.notes:
            terminal.say(note)
        write_synthetic(target, imported.synthetic, config.force)
    print_path(target)
