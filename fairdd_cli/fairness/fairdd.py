"""FairDD: synchronized matching, one target for each protected group of a class.

With a squared distance, Σ_a ‖m_a - s‖² = G ‖mean_a m_a - s‖² + const over the G groups of a class: the minimiser is
that of `barycenter`, and the steps are G times as long.
"""

from fairdd_cli.fairness._base import Strategy, group_targets

strategy = Strategy(
    title="synchronized matching: one target for each group of a class; the distances are summed",
    paper="FairDD, NeurIPS 2025",
    uses_groups=True,
    targets=group_targets,
)
