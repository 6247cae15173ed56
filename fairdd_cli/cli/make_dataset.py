"""fairdd make-dataset: a biased data set out of a source of images."""

from fairdd_cli.cli.tables import cell_tables
from fairdd_cli.cli.terminal import Terminal, end_killed_command, print_path
from fairdd_cli.config import MakeDatasetConfig


def make_dataset(config: MakeDatasetConfig) -> None:
    """Make a biased data set file: images sorted by class and group, with a test split of equal cells.

    Prints the path written. Example: fairdd make-dataset c-fmnist-fg --embedded -o data.h5
    """
    from fairdd_cli.artifacts import check_target, lock_output
    from fairdd_cli.make_dataset import dataset_name, make, request_of
    from fairdd_cli.reporting.cells import warnings

    title = dataset_name(config.dataset, request_of(config))
    target_path = f"{title.replace('/', '-')}.h5" if config.output is None else config.output
    if check_target(target_path, config.force, *map(str, config.csv)):
        end_killed_command(target_path, config.quiet)
        return
    with lock_output(target_path), Terminal(config.quiet, config.verbose, unit="images") as terminal:
        request = request_of(config, lambda remark: terminal.say(f"note: {remark}"))
        dataset = make(config.dataset, request, target_path, limit=config.limit, progress=terminal, force=config.force)
        terminal.stop()
        held_out = f"{len(dataset.val):,} validation, " if dataset.val else ""
        terminal.say(
            f"{title}: {len(dataset.train):,} training, {held_out}{len(dataset.test):,} test images, "
            f"{dataset.classes} classes x {dataset.groups} groups, bias ratio {dataset.bias_ratio:.3g}"
        )
        for reason, count in dataset.options["left_out"].items():
            terminal.say(f"left out: {count:,} images ({reason})")
        for warning in warnings(dataset):
            terminal.say(f"warning: {warning}")
        for part in cell_tables(dataset, terminal.width):
            terminal.show(part)
    print_path(target_path)
