"""Folders for what is computed once and used again, which only the user may write to."""

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path


def private_folder(path: Path) -> bool:
    """Whether `path` is a folder of the user that nobody else may write to; it is made where nothing is there."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except (OSError, ValueError):
        return False
    own = found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return own and os.access(path, os.W_OK | os.X_OK)


def has_temporary_folder() -> bool:
    """Whether there is a folder for temporary files, TMPDIR or one of the system's."""
    try:
        return bool(tempfile.gettempdir())
    except OSError:
        return False


def cache_folder(name: str) -> Path:
    """The folder `name` in the user's cache, `$XDG_CACHE_HOME/fairdd` or `~/.cache/fairdd`.

    Where that cannot be written, or belongs to somebody else, it is a temporary folder that goes with this process.
    """
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        cache = chosen if chosen.is_absolute() else Path.home() / ".cache"
        if private_folder(cache / "fairdd" / name):
            return cache / "fairdd" / name
    except RuntimeError:  # the user has no home
        pass
    temporary = Path(tempfile.mkdtemp(prefix="fairdd-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary
