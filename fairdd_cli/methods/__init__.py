"""Distillation methods, one file each; a file `NAME.py` holds one class `Method`."""

from fairdd_cli.registry import METHODS

__all__ = ["METHODS"]
