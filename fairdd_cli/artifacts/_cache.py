"""Folders for what is computed once and used again, which only the user may write to."""

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path


def private_folder(path: Path) -> Path | None:
    """The folder to which `path` and its links lead, if nobody but the user and root can put anything in its place.

    It is made where nothing is there. None if others may write to it, or rename it or one of the folders above it.
    """
    try:
        folder = path.resolve()
        for each in reversed((folder, *folder.parents)):
            each.mkdir(mode=0o700, exist_ok=True)
            found = each.lstat()  # a link that came since would be writable by all
            trusted = (os.geteuid(),) if each == folder else (os.geteuid(), 0)
            others = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid != os.getegid() else 0)  # not a user's own group
            shared = found.st_mode & others
            sticky = each != folder and found.st_mode & stat.S_ISVTX  # each may rename only what is theirs
            if found.st_uid not in trusted or (shared and not sticky):
                return None
    except (OSError, ValueError, RuntimeError):  # the last for a loop of links
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def has_temporary_folder() -> bool:
    """Whether there is a folder for temporary files, TMPDIR or one of the system's."""
    try:
        return bool(tempfile.gettempdir())
    except OSError:
        return False


def cache_folder(name: str) -> Path:
    """The folder `name` in the user's cache, `$XDG_CACHE_HOME/fairdd` or `~/.cache/fairdd`.

    Where that cannot be written, or others could put theirs in its place, it is a temporary folder that goes with this
    process.
    """
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        cache = chosen if chosen.is_absolute() else Path.home() / ".cache"
        if folder := private_folder(cache / "fairdd" / name):
            return folder
    except RuntimeError:  # the user has no home
        pass
    temporary = Path(tempfile.mkdtemp(prefix="fairdd-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary
