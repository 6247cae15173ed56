"""Standard streams, signals and an environment that are not as they should be; names that could steer a terminal."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import write_toy

from fairdd_cli import cli
from fairdd_cli.cli import terminal
from fairdd_cli.errors import Interrupted

PROGRAM = [sys.executable, "-m", "fairdd_cli"]


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell line does in which `fairdd` is the program."""
    words = line.replace("fairdd", " ".join(PROGRAM))
    return subprocess.run(
        ["sh", "-c", words], cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("fairdd list datasets >&-", 1, b"fairdd: cannot write on standard output: Bad file descriptor\n"),
        ("fairdd inspect - <&-", 2, b"fairdd: cannot read standard input: Bad file descriptor\n"),
        ("fairdd inspect absent.h5 2>&-", 2, b""),
    ],
)
def test_a_closed_stream_is_an_error_in_a_line(line: str, status: int, message: bytes, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (status, message)


def test_an_output_never_gets_what_is_printed_on_a_closed_stream(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3), side=16)
    shell("fairdd inspect toy.h5 --images grid.png >&- 2>&-", tmp_path)
    assert not (tmp_path / "grid.png").exists() or (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    done = shell("fairdd make-dataset c-fmnist-fg --embedded --limit 100 -o d.h5 >&- 2>&-", tmp_path)
    assert done.returncode == 1  # the path could not be said
    assert b"sound" in shell("fairdd verify d.h5", tmp_path).stdout


def test_a_reader_that_goes_away_hears_no_more(tmp_path: Path) -> None:
    words = "fairdd make-dataset c-fmnist-fg --embedded --limit 100 -o - --quiet"
    done = shell(f"({words}; echo $? >status) | head -c 10", tmp_path)
    assert (done.stdout[:4], done.stderr, (tmp_path / "status").read_text()) == (b"\x89HDF", b"", "1\n")


def full_disk() -> tuple[int, ...]:
    return (os.open("/dev/full", os.O_WRONLY),)


def gone_terminal() -> tuple[int, ...]:
    ours, theirs = pty.openpty()
    os.close(ours)
    return (theirs,)


def gone_reader() -> tuple[int, ...]:
    reader, writer = os.pipe()
    os.close(reader)
    return (writer,)


def full_pipe() -> tuple[int, ...]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    return writer, reader


@pytest.mark.parametrize("broken", [full_disk, gone_terminal, gone_reader, full_pipe])
def test_work_goes_on_without_its_messages(
    broken: Callable[[], tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # then Python itself loses some
    descriptors = broken()
    for words, ended in (
        (["make-dataset", "c-fmnist-fg", "--embedded", "--limit", "100", "-o", "d.h5"], (0, b"d.h5\n")),
        (["inspect", "absent.h5", "--verbose"], (2, b"")),
    ):
        done = subprocess.run(
            [*PROGRAM, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=descriptors[0], check=False
        )
        assert (done.returncode, done.stdout) == ended
    assert b"sound" in shell("fairdd verify d.h5", tmp_path).stdout
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_an_encoding_lacks_are_replaced(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "☃.h5").write_bytes(
        write_toy(tmp_path / "t.h5", np.full((2, 2), 3)) and (tmp_path / "t.h5").read_bytes()
    )
    for line in ("fairdd inspect ☃.h5", "fairdd verify ☃.h5", "fairdd list"):
        done = shell(line, tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding)
    assert (
        rb"'\u2603\u2603.h5' does not exist"
        in shell("fairdd inspect ☃☃.h5", tmp_path, PYTHONIOENCODING=encoding).stderr
    )


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No signal has come yet, and what the program does about signals ends with the test."""
    monkeypatch.setattr(terminal, "signals", [])
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    ("handler", "status", "said"), [(signal.SIG_DFL, 130, "fairdd: interrupted\n"), (signal.SIG_IGN, 0, "")]
)
def test_signals_interrupt_unless_they_were_ignored_at_the_start(
    name: str,
    handler: signal.Handlers,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    number = getattr(signal, name)
    monkeypatch.setattr(cli, "app", lambda *words, **options: signal.raise_signal(number))
    signal.signal(number, handler)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capfd.readouterr().err) == (status, said)


@pytest.mark.usefixtures("handlers")
def test_an_interrupt_that_is_lost_comes_back_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A library that calls Python from C, and takes any error for an answer, loses what a signal raises in between."""

    def app(*words: object, **options: object) -> None:
        with suppress(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        with terminal.Terminal(quiet=True) as progress:
            progress.start("work", 2)
            progress.advance(1)

    monkeypatch.setattr(cli, "app", app)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capfd.readouterr().err) == (130, "fairdd: interrupted\n")


def on_terminal(words: list[str], folder: Path) -> str:
    """What a terminal gets of the program's standard output and error."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "NO_COLOR": "1"}
    process = subprocess.Popen([*PROGRAM, *words], cwd=folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    received = bytearray()
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        received += part
    os.close(ours)
    process.wait()
    return received.decode(errors="replace")


def test_no_escape_of_a_name_reaches_a_terminal(tmp_path: Path) -> None:
    name = "a\x1b]0;title\x07.h5"
    write_toy(tmp_path / name, np.full((2, 2), 3), side=16)
    for words in (
        ["inspect", name],
        ["verify", name],
        ["inspect", f"absent{name}"],
        ["inspect", f"absent{name}", "--verbose"],
        ["inspect", name, "--images", f"{name}.png"],
        ["make-dataset", "c-fmnist-fg", "--embedded", "--limit", "100", "-o", f"made{name}"],
        ["inspect", "--nonsense\x1b[31m"],
    ):
        shown = on_terminal(words, tmp_path)
        assert "\x1b]0;" not in shown, words
        assert "\x1b[31m" not in shown, words
        assert "x1b" in shown, words


def test_an_empty_number_of_columns_is_none(tmp_path: Path) -> None:
    lines = [shell("fairdd list datasets", tmp_path, COLUMNS=columns).stdout for columns in ("", "many", "40")]
    assert lines[0] == lines[1]
    assert max(map(len, lines[0].decode().splitlines())) > 80
    assert max(map(len, lines[2].decode().splitlines())) <= 40


def test_a_home_that_is_no_folder_is_done_without(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3), side=16)
    (tmp_path / "file").write_text("")
    nowhere = {"HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "file"), "XDG_CACHE_HOME": ""}
    done = shell("fairdd distill toy.h5 --method random --ipc 1 -o s.h5 -q", tmp_path, **nowhere)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"s.h5\n", b"")
    done = shell("fairdd inspect s.h5 --images s.png -q", tmp_path, **nowhere)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("lacking", [True, False])
def test_without_a_folder_for_temporary_files_it_is_named(
    lacking: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/nowhere']")

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(cli, "app", fail)  # as torch and matplotlib do while they are imported
        if lacking:
            patch.setattr("tempfile.gettempdir", fail)
        cli.main()
    assert left.value.code == 1
    expected = "fairdd: no folder for temporary files can be written; set TMPDIR" if lacking else "fairdd: unexpected"
    assert capfd.readouterr().err.startswith(expected)


def test_words_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text('distill: {network: "a\\0b"}')
    for line in (r"fairdd inspect $(printf 'a\377')", "fairdd distill d.h5 --method dm --ipc 1 --recipe r.yaml"):
        done = shell(line, tmp_path)
        assert done.returncode == 2
        assert b"is not text in UTF-8" in done.stderr
