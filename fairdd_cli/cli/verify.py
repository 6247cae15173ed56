"""fairdd verify: whether files are sound, and whether they belong together."""

from fairdd_cli.cli.terminal import Terminal, literal, product
from fairdd_cli.config import VerifyConfig
from fairdd_cli.errors import UsageError, one_line


def verify(config: VerifyConfig) -> None:
    """Check the digest of each file, and that evaluations, synthetic sets and data sets come from each other.

    Exit code 2 where a file is unsound or a chain is broken. Example: fairdd verify data.h5 data.*.h5 runs/*.json
    """
    from rich import box
    from rich.table import Table

    from fairdd_cli.verify import verify as check

    with Terminal(config.quiet, config.verbose):
        findings = check(config.files)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("file", "kind", "digest", "made from", "finding"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        words = (finding.path, finding.kind, finding.digest[:19], finding.made_from, finding.problem or "sound")
        table.add_row(*(literal(one_line(word)) for word in words))
    if not config.quiet:
        product(table)
    failed = [finding for finding in findings if finding.problem]
    if failed:
        raise UsageError(f"{len(failed)} of {len(findings)} files failed: {failed[0].problem}")
