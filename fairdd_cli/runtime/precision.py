"""Numerical precision: fp32, TF32 or bf16, and deterministic algorithms."""

import os

import torch

from fairdd_cli.errors import UsageError, unknown

PRECISIONS = ("fp32", "tf32", "bf16")


def check_precision(precision: str, device: torch.device) -> None:
    """Raises UsageError where `precision` is unknown, or `device` does not have it."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "tf32" and device.type == "cpu":
        raise UsageError("--precision tf32 needs a CUDA device; on a CPU use fp32 or bf16")


def allow_tf32(allowed: bool) -> None:
    """Allows or forbids TF32 for the whole process.

    A context manager would not do: backward passes run outside of it, and torch allows TF32 in convolutions by itself.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def use_deterministic_algorithms() -> None:
    """Confines torch to algorithms that give the same bits every time, for the whole process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
