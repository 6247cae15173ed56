"""The smallest options of every method: what the tests that cross methods with something else run.

A new method adds its line here; a test holds that every method of the registry has one.
"""

from collections.abc import Mapping

TINY: Mapping[str, Mapping[str, str]] = {
    "random": {},
    "herding": {},
    "kcenter": {},
    "dm": {},
    "dance": {"num_experts": "2", "train_epochs": "2"},
    "cafe": {"outer_loop": "2", "inner_loop": "2"},
    "gm": {"outer_loop": "2", "inner_loop": "2"},
    "dsa": {"outer_loop": "2", "inner_loop": "2"},
    "idc": {"inner_loop": "2", "real_per_step": "20"},
    "dream": {"inner_loop": "2", "real_per_step": "20", "interval": "2"},
    "mtt": {"num_experts": "1", "train_epochs": "3", "max_start_epoch": "2", "expert_epochs": "1", "syn_steps": "2"},
}


def tiny_words(method: str) -> list[str]:
    """The same as words of the command line."""
    return [word for name, value in TINY[method].items() for word in ("-O", f"{name}={value}")]
