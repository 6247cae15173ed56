"""FairDD: synchronized matching, one target for each protected group of a class."""

from fairdd_cli.fairness._base import Strategy, group_targets

strategy = Strategy(
    title="synchronized matching: one target for each group of a class; the distances are summed",
    paper="FairDD, NeurIPS 2025",
    uses_groups=True,
    targets=group_targets,
)
