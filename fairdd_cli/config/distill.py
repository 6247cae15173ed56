"""The options of `fairdd distill`."""

from collections.abc import Mapping
from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._defaults import per_method, strategies_with
from fairdd_cli.config._options import argument, option
from fairdd_cli.errors import UsageError
from fairdd_cli.registry import METHODS, STRATEGIES

MATCHES = ("class", "cells")
KEEPS = ("last", "best")
VALIDATION = ("validate", "validate_networks", "validate_epochs", "keep")  # which mean nothing without the first
VALIDATE_NETWORKS, VALIDATE_SHARE = 2, 10  # networks of a validation, and how often their epochs go into the method's
INITS = ("real", "balanced", "kmeans", "herding", "kcenter", "noise")


def _default_sampling() -> str:
    return f"balanced with {strategies_with('sampling', 'balanced')}; else proportional"


def _default_init() -> str:
    return f"{per_method('init')()}; else balanced with {strategies_with('init', 'balanced')}; else real"


def _default_batch_real() -> str:
    balanced = per_method("batch_real", "balanced")()
    return f"proportional sampling: {per_method('batch_real', 'proportional')()}; balanced sampling: {balanced}"


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What to distil, and how, as the user says it; None leaves a choice to the method."""

    data: str = argument("Data set file from make-dataset; - is stdin.", "DATA")
    method: str = option(
        "Distillation method; dc is gm. See 'fairdd list methods'.",
        "-m",
        choices=METHODS.names,
        aliases=METHODS.aliases,
        affects="result",
    )
    ipc: int = option("Synthetic images per class.", metavar="N", minimum=1, affects="result")
    fair: bool = option(
        "Short for --fairness fairdd, which also changes the defaults of --sampling, --init and --batch-real; "
        "--recipe paper keeps the papers' own.",
        default=False,
        excludes="fairness",
    )
    fairness: str | None = option(
        "Fairness strategy. See 'fairdd list strategies'.",
        default=None,
        choices=STRATEGIES.names,
        kind="fairness strategy",
        default_text="vanilla",
        affects="result",
    )
    sampling: str | None = option(
        "How real batches are drawn: as the groups occur, or evenly over them.",
        default=None,
        choices=shared.SAMPLINGS,
        default_text=_default_sampling,
        affects="result",
    )
    init: str | None = option(
        "Initialisation: real images, real images evenly over the groups, representative ones (kmeans, herding, "
        "kcenter), or noise.",
        default=None,
        choices=INITS,
        kind="initialisation",
        default_text=_default_init,
        affects="result",
    )
    factor: int | None = option(
        "Multi-formation: N x N training images inside each stored one.",
        default=None,
        metavar="N",
        minimum=1,
        default_text=per_method("factor"),
        affects="result",
    )
    match: str = option(
        "What a target is compared with: all synthetic images of its class, or with 'cells' each group with the images "
        "that stand for it.",
        default="class",
        choices=MATCHES,
        affects="result",
    )
    decoding: str = option(
        "How training images are stored. See 'fairdd list decodings'.",
        default="tiles",
        metavar="NAME[:KEY=VALUE,…]",
        affects="result",
    )
    trained_networks: int = option(
        "Match in N networks that are trained on the real images first, at a random point between their start and "
        "their end; 0: in random ones.",
        default=0,
        metavar="N",
        minimum=0,
        affects="result",
    )
    trained_epochs: int = option(
        "Epochs of training of the trained networks.",
        default=2,
        metavar="N",
        minimum=1,
        affects="result",
    )
    trained_sampling: str | None = option(
        "Which images the trained networks, dance's too, are trained on: as the groups occur, or evenly over them.",
        default=None,
        choices=shared.SAMPLINGS,
        default_text="that of --sampling",
        affects="result",
    )
    cross_entropy: float = option(
        "Also classify the synthetic images by the trained networks: weight of the cross-entropy, as a share of the "
        "norm of the matching gradient.",
        default=0.0,
        metavar="SHARE",
        minimum=0,
        affects="result",
    )
    batch_real: int | None = option(
        "Real batch size per class.",
        default=None,
        metavar="N",
        minimum=1,
        default_text=_default_batch_real,
        affects="result",
    )
    iterations: int | None = option(
        "Outer iterations.",
        default=None,
        metavar="N",
        minimum=0,
        default_text=per_method("iterations"),
        affects="result",
    )
    network: str = option(
        "Network to match in, such as convnet:width=32,depth=3. See 'fairdd list networks'.",
        default="convnet",
        metavar="NAME[:KEY=VALUE,…]",
        affects="result",
    )
    groups: str = option(
        "Groups: labels are those of the data; pseudo[:K] are K clusters of each class, found without labels.",
        default="labels",
        metavar="labels|pseudo[:K]",
        affects="result",
    )
    group_noise: float = option(
        "Replace a share P of the protected labels at random.",
        default=0.0,
        metavar="P",
        minimum=0,
        maximum=1,
        affects="result",
    )
    validate: int | None = option(
        "Train a few networks on the set after every N iterations, and before the first, and test them on the "
        "validation split, which make-dataset --holdout sets apart. The images stay the same.",
        default=None,
        metavar="N",
        minimum=1,
        default_text="never",
        affects="result",
    )
    validate_networks: int | None = option(
        "Networks of a validation.",
        default=None,
        metavar="N",
        minimum=1,
        default_text=str(VALIDATE_NETWORKS),
        affects="result",
    )
    validate_epochs: int | None = option(
        "Epochs of a validation's networks.",
        default=None,
        metavar="N",
        minimum=1,
        default_text="a tenth of those of evaluate",
        affects="result",
    )
    keep: str = option(
        "Images to write: the last, or those of the validation with the highest recall of the worst group, mean over "
        "the classes: accurate and fair at once.",
        default="last",
        choices=KEEPS,
        affects="result",
    )
    experts: str | None = option(
        "Expert trajectories of mtt, or the trained networks; made on first use.",
        default=None,
        metavar="FILE",
        default_text="DATA.experts-FAIRNESS.h5, DATA.networks-SAMPLING.h5, DATA.networks-dance-SAMPLING.h5",
    )
    hyper: Mapping[str, str] = option(
        "Set a hyper-parameter of the method; repeatable. See 'fairdd list methods NAME'.",
        "-O",
        flag="--option",
        default=dict,
        metavar="KEY=VALUE",
        default_text="the paper's",
        affects="result",
    )
    output: str | None = option(
        "Where to write; - is stdout.",
        "-o",
        default=None,
        metavar="FILE",
        default_text="DATA.METHOD-FAIRNESS-ipcN.h5",
    )
    seed: int = shared.seed()
    residency: str = shared.residency()
    device: str = shared.device()
    precision: str = shared.precision()
    deterministic: bool = shared.deterministic()
    compile: str = shared.compile()
    checkpoint_every: float = shared.checkpoint_every()
    restart: bool = shared.restart()
    recipe: str | None = shared.recipe("best", "paper")
    force: bool = shared.force()
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()

    def decide_validation(self, iterations: int, epochs: int) -> dict[str, int]:
        """How to validate a run of `iterations` whose networks are evaluated after `epochs`; empty for not at all.

        Raises UsageError for options that have no effect.
        """
        given = {
            "--keep best": self.keep == "best",
            "--validate-networks": self.validate_networks,
            "--validate-epochs": self.validate_epochs,
        }
        if self.validate is None:
            for words in (words for words, value in given.items() if value):
                raise UsageError(f"{words} needs validations; say after how many iterations with --validate N")
            return {}
        if not iterations:
            raise UsageError(
                "--validate has no effect without iterations; use 'fairdd evaluate --split val' on the set"
            )
        share = max(1, epochs // VALIDATE_SHARE)
        return {
            "validate_networks": self.validate_networks or VALIDATE_NETWORKS,
            "validate_epochs": self.validate_epochs or share,
        }

    @property
    def strategy(self) -> str:
        """The name of the fairness strategy; raises UsageError where --fair and --fairness contradict each other."""
        if self.fair and self.fairness not in (None, "fairdd"):
            raise UsageError(f"--fair means --fairness fairdd, but --fairness {self.fairness} was given too")
        return self.fairness or ("fairdd" if self.fair else "vanilla")
