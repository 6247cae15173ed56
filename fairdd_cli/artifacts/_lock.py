"""One writer for each output, and what a writer that was killed left behind.

A lock is a file beside the output that the system unlocks when its process ends, however that may be. It records
the command and, before the output gets its name, a hash of it, so that the same command, given again, can tell that
it was killed after its output was complete. The library filelock does not fit: it leaves its files behind and names
no owner.
"""

import errno
import fcntl
import glob
import hashlib
import json
import os
import pwd
import re
import shutil
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairdd_cli.artifacts._output import (
    BEFORE_NAMING,
    CHECKPOINT,
    beside,
    cannot_write,
    checkpoint_of,
    followed,
    is_stdout,
    is_stream,
    make_folder,
    remove,
    shortened,
)
from fairdd_cli.errors import FairddError, UsageError

RECORD_LIMIT = 2**20  # bytes of a lock file that are read
MOUNTS = Path("/proc/self/mountinfo")  # Linux's list of what is mounted where


def check_target(path: str, force: bool, *inputs: str) -> bool:
    """Refuses an output that could not be written at the end, before any work is spent on it.

    Returns whether this very command made `path` already, and was killed before it could say so. Raises UsageError
    where `path` exists otherwise (and not `force`), is one of the `inputs`, is a folder, may not be replaced, or lies
    in a folder that is not writable. A missing parent folder is fine if it can be made.
    """
    try:
        return _check_target(path, force, *inputs)
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a folder that may not be looked into
        raise UsageError(f"cannot write '{path}': {getattr(error, 'strerror', None) or error}") from error


def _check_target(path: str, force: bool, *inputs: str) -> bool:
    if is_stdout(path):
        if sys.stdout is not None and sys.stdout.isatty():
            raise UsageError(f"'-o {path}' writes a binary file to a pipe, but standard output is a terminal")
        return False
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise UsageError(f"'{path}' may not be written: permission denied")
        return False
    target = followed(path)
    if target.is_dir():
        raise UsageError(f"cannot write '{path}': it is a folder; give a file name")
    exists = _exists(target)
    if exists and any(Path(each).exists() and target.samefile(each) for each in inputs):
        raise UsageError(f"'{path}' is what the command reads, and would be lost; give the output another name")
    complete = _made_by_this_command(target)
    if exists and not force and not complete:
        raise UsageError(f"'{path}' exists already; give --force to replace it, or another name")
    folder = Path(os.path.realpath(target.parent))
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write '{path}': the folder '{folder}' is not writable")
    for file in (target, Path(checkpoint_of(path))):
        check_replaceable(file)
    return complete


def check_replaceable(file: Path) -> None:
    """Raises UsageError for a mount point, or another user's file where each may remove only what is theirs."""
    if not os.path.lexists(file):
        return
    if _is_mount_point(file):  # a single file that a container was given, for instance
        raise UsageError(f"'{file}' is a mount point, and cannot be replaced; mount its folder, or give another name")
    owner, folder = file.lstat().st_uid, file.absolute().parent.stat()
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, owner, folder.st_uid):
        raise _in_the_way(file)


def _is_mount_point(file: Path) -> bool:
    try:
        mounts = MOUNTS.read_bytes().splitlines()
    except OSError:  # not Linux
        return False
    name = re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(os.path.realpath(file)))
    return any(mount.split(b" ")[4] == name for mount in mounts)


def _in_the_way(file: Path) -> UsageError:
    with suppress(OSError):
        return UsageError(f"'{file}' of {_user(file.lstat().st_uid)} is in the way; remove it, or give another name")
    return UsageError(f"'{file}' is in the way; remove it, or give another name")


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


@contextmanager
def lock_output(path: str) -> Iterator[None]:
    """A block in which no other process that locks `path` may write it: raises UsageError where one does.

    What a killed process left behind is removed, and so is a folder that was made in vain.
    """
    if is_stream(path):
        yield
        return
    target = followed(path).absolute()
    missing = [folder for folder in target.parents if not folder.exists()]  # deepest first
    lock = _lock_of(target)
    try:
        make_folder(target.parent)
        descriptor = _locked(lock, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        made = []  # hashes of what this command has made, and may be found where it is killed
        try:
            _recover(target)
            if _made_by_this_command(target):
                made.append(_hash(target))
                remove(checkpoint_of(path))
            else:
                _record(descriptor, made)
        except OSError as error:
            raise cannot_write(path, error) from error

        def note(part: Path) -> None:
            with suppress(OSError):  # as in `_record`
                made.append(_hash(part))
            _record(descriptor, made)

        BEFORE_NAMING[target] = note
        yield
        _release(lock)
    except BaseException:
        if not _made_by_this_command(target):  # else the same command is to find that only what follows failed
            _release(lock)
        raise
    finally:
        BEFORE_NAMING.pop(target, None)
        os.close(descriptor)
        with suppress(OSError):  # a folder that holds something stays
            for folder in missing:
                folder.rmdir()


def _release(lock: Path) -> None:
    with suppress(OSError):
        lock.unlink()


def _lock_of(target: Path) -> Path:
    base = beside(target)
    return base.with_name(f".{base.name}.lock")


def _locked(lock: Path, path: str) -> int:
    """A descriptor of the file `lock`, locked. A file system without locks leaves only the look for its process."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except PermissionError as error:
            if os.path.lexists(lock):
                raise _in_the_way(lock) from error
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK or _lives(descriptor):
                owner = _owner(descriptor)
                os.close(descriptor)
                raise UsageError(
                    f"'{path}' is being written by another fairdd ({owner}); wait for it, or give -o for another name"
                ) from error
        try:
            if os.path.samestat(os.fstat(descriptor), lock.stat()):  # else its last owner has just removed it
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _lives(descriptor: int) -> bool:
    """Whether the process that wrote a lock is another one that runs on this machine."""
    record = _parsed(os.pread(descriptor, RECORD_LIMIT, 0))
    process = record.get("process")
    if record.get("host") != socket.gethostname() or not isinstance(process, int) or process in (0, os.getpid()):
        return False
    return Path(f"/proc/{process}").exists()


def _owner(descriptor: int) -> str:
    """Who holds a lock, in words."""
    record = _parsed(os.pread(descriptor, RECORD_LIMIT, 0))
    words = [f"process {record.get('process', 'unknown')}"]
    number = os.fstat(descriptor).st_uid
    words += [f"of {_user(number)}"] if number != os.geteuid() else []
    words += [f"on {record['host']}"] if record.get("host") not in (None, socket.gethostname()) else []
    return " ".join(words)


def _parsed(content: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        record = json.loads(content)
        if isinstance(record, dict):
            return record
    return {}


def _command() -> list[str]:
    return [os.path.realpath("."), *sys.argv[1:]]


def _record(descriptor: int, made: list[str]) -> None:
    record = {"process": os.getpid(), "host": socket.gethostname(), "command": _command(), "made": made}
    with suppress(OSError):  # on a full disk a lock still locks; it only tells less
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(record).encode(), 0)


def _exists(target: Path) -> bool:
    try:
        target.stat()
    except FileNotFoundError:
        return False
    return True


def _hash(target: Path) -> str:
    """What tells the file or folder `target` from any other: inodes and times are not the same after a new mount."""
    sha = hashlib.sha256()
    for file in sorted(target.rglob("*")) if target.is_dir() else [target]:
        if file.is_file():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            sha.update(os.fsencode(file.relative_to(target)) + b"\0" + content)
    return sha.hexdigest()


def made_by_this_command(*paths: str) -> bool:
    """Whether a killed run of this very command made one of its outputs `paths`: then none of them is another's."""
    return any(not is_stream(path) and _made_by_this_command(followed(path)) for path in paths)


def _made_by_this_command(target: Path) -> bool:
    """Whether a killed process of this very command left its lock beside `target`, and had made what lies there."""
    try:
        with _lock_of(target).open("rb") as lock:
            record = _parsed(lock.read(RECORD_LIMIT))
        made = record.get("made")
        return record.get("command") == _command() and isinstance(made, list) and _hash(target) in made
    except OSError:
        return False


def _recover(target: Path) -> None:
    """Removes what a killed process left beside `target`; gives it back the folder that it was about to replace."""
    base = beside(target)
    for old in base.parent.glob(f".{glob.escape(base.name)}.????????.old"):
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
    for name in (base.name, shortened(base.name + CHECKPOINT)):
        for part in base.parent.glob(f".{glob.escape(name)}.????????.part"):
            try:
                shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink(missing_ok=True)
            except PermissionError as error:
                raise _in_the_way(part) from error


def remove_parts(path: str, names: Iterable[str]) -> None:
    """Removes what a killed process left of making `path`, and the checkpoints of its parts, called `path.NAME`.

    In a folder that is only read from, they stay.
    """
    with suppress(FairddError), lock_output(path):
        for name in names:
            checkpoint = Path(checkpoint_of(f"{path}.{name}"))
            parts = checkpoint.parent.glob(f".{glob.escape(shortened(checkpoint.name))}.????????.part")
            for leftover in (checkpoint, *parts):
                with suppress(OSError):
                    leftover.unlink()
