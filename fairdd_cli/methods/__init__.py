"""Distillation methods, one file each; a file `NAME.py` holds one class `Method`."""

from fairdd_cli.registry import Registry

METHODS = Registry("method", "fairdd_cli.methods", "Method", aliases={"dc": "gm"})
