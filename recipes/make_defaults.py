"""The defaults that depend on the method or on the strategy, as JSON, from the methods and strategies themselves.

    python recipes/make_defaults.py > defaults.json && mv defaults.json fairdd_cli/config/

Help texts show them without importing torch. A test compares the file with what this prints.
"""

import json
import sys
from importlib.resources import files
from typing import Any

from fairdd_cli.distill import default_init, default_sampling
from fairdd_cli.fairness import STRATEGIES, find_strategy
from fairdd_cli.methods import METHODS
from fairdd_cli.methods.dm import Method as MatchingMethod


def own(names: list[str], package: str) -> list[str]:
    """Those of `names` that stand in the `package` itself, not in another one."""
    return [name for name in names if files(package).joinpath(f"{name.replace('-', '_')}.py").is_file()]


def of_method(name: str) -> dict[str, Any]:
    """The defaults of a method; None where an option has no meaning for it."""
    method = METHODS.load(name).Method
    protocol = method.evaluation
    return {
        "iterations": method.iterations,
        "factor": method.factor,
        "init": method.init,
        "batch_real": dict(method.batch_real) if method.samples else None,
        "evaluation": {
            "epochs": protocol.epochs,
            "learning_rate": protocol.learning_rate,
            "batch": protocol.batch_size,
            "augmentation": protocol.augmentation,
        },
    }


def of_strategy(name: str) -> dict[str, Any]:
    """The defaults that a strategy brings for a method that draws real batches and has no start of its own."""
    strategy = find_strategy(name)
    return {"sampling": default_sampling(MatchingMethod, strategy), "init": default_init(MatchingMethod, strategy)}


if __name__ == "__main__":
    defaults = {
        "methods": {name: of_method(name) for name in own(METHODS.names(), "fairdd_cli.methods")},
        "strategies": {name: of_strategy(name) for name in own(STRATEGIES.names(), "fairdd_cli.fairness")},
    }
    json.dump(defaults, sys.stdout, indent=1)
    sys.stdout.write("\n")
