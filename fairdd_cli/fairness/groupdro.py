"""Group DRO: only the group with the largest distance counts (worst-group loss)."""

from fairdd_cli.fairness._base import Strategy, group_targets

strategy = Strategy(
    title="one target for each group of a class; only the largest distance counts",
    paper="Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020",
    uses_groups=True,
    targets=group_targets,
    reduce="max",
)
