"""The names that hyper-parameters had in version 0.1.0, by method, and which it had not. Nothing here imports torch.

Commands still take the old names, and options stored in files are read under the new ones.
"""

from collections.abc import Mapping
from typing import Any

_LOOPS = {"outer": "outer_loop", "inner": "inner_loop", "network_learning_rate": "lr_net"}
_IDC = {
    "inner": "inner_loop",
    "synthetic": "batch_syn_max",
    "network_images": "real_per_step",
    "refresh": "interval",
}
RENAMED: Mapping[str, Mapping[str, str]] = {
    "dm": {"pretrain": "warmup_epochs"},
    "gm": _LOOPS,
    "dsa": _LOOPS,
    "idc": _IDC,
    "dream": _IDC,
    "mtt": {
        "unrolled": "syn_steps",
        "ahead": "expert_epochs",
        "max_start": "max_start_epoch",
        "step_rate": "lr_lr",
        "first_step": "lr_init",
        "batch": "batch_syn",
        "experts": "num_experts",
        "expert_learning_rate": "lr_teacher",
    },
}
# Names that stayed but changed their meaning: in the options of a method that also holds one of its old names, the
# first is what the second is now.
REUSED: Mapping[str, Mapping[str, str]] = {"mtt": {"expert_epochs": "train_epochs"}}
# Hyper-parameters that are newer, at values that leave a run as it was.
ADDED: Mapping[str, Mapping[str, object]] = {"dm": {"num_freqs": 4096}}


def with_current_names(method: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters `stored` in a file for `method`, under the names of today, with those added since."""
    renamed = RENAMED.get(method, {})
    old = any(name in stored for name in renamed)
    current = {**renamed, **REUSED.get(method, {})} if old else {}
    return {**ADDED.get(method, {}), **{current.get(name, name): value for name, value in stored.items()}}
