"""Several processes, as torchrun starts them, against one: the same images; resumed by fewer; one of them lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_toy
from shared_job import INGREDIENTS, MOVING, VARIANTS, main
from tiny import TINY
from torch import Tensor

from fairdd_cli.artifacts import read_synthetic
from fairdd_cli.runtime import Processes, Runtime

pytestmark = pytest.mark.slow
CHECKPOINT = ".checkpoint"  # what follows the name of an output in that of its checkpoint
TESTS = Path(__file__).parent
DISTILL = ["distill", "toy.h5", "--method", "dm", "--fair", "--ipc", "2", "--network", "convnet:width=8,depth=2"]


def together(count: int, folder: Path, *words: object, **options: object) -> "subprocess.Popen[str]":
    """`python words` in `count` processes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free a moment ago
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", f"--master-port={port}"]
    command += ["--monitor-interval=0.2", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def finished(process: "subprocess.Popen[str]", status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert (process.returncode == 0) == (status == 0), err
    return out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, so that two processes have one and two of them; cells missing and alone."""
    place = tmp_path_factory.mktemp("shared")
    write_toy(place / "toy.h5", np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]]))
    write_toy(place / "pair.h5", np.array([[9, 3], [2, 9]]))
    (place / "alone").mkdir()
    main(str(place / "toy.h5"), place / "alone")
    return place


def test_two_processes_do_what_one_does_for_every_method(folder: Path) -> None:
    (folder / "two").mkdir()
    finished(together(2, folder, TESTS / "shared_job.py", "toy.h5", folder / "two"))
    with np.load(folder / "alone" / "found.npz") as alone, np.load(folder / "two" / "found.npz") as two:
        assert two["count"] == 2
        assert two["sent"] > 0
        assert alone["sent"] == 0
        for name in (*TINY, *VARIANTS, *INGREDIENTS, *(f"{method} loss" for method in MOVING)):
            np.testing.assert_allclose(two[name], alone[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_more_processes_than_classes_share_a_class(folder: Path) -> None:
    for name in ("pair-alone", "pair-four"):
        (folder / name).mkdir()
    main(str(folder / "pair.h5"), folder / "pair-alone")
    finished(together(4, folder, TESTS / "shared_job.py", "pair.h5", folder / "pair-four"))
    with np.load(folder / "pair-alone" / "found.npz") as alone, np.load(folder / "pair-four" / "found.npz") as four:
        for name in (*TINY, *VARIANTS, *INGREDIENTS, *(f"{method} loss" for method in MOVING)):
            np.testing.assert_allclose(four[name], alone[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_commands_write_once_and_one_process_continues_what_two_began(folder: Path) -> None:
    program = ["-m", "fairdd_cli"]
    words = [*DISTILL, "--iterations", 80, "--checkpoint-every", 0]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *program, *map(str, words), "-o", "whole.h5"]
    whole = subprocess.run(command, cwd=folder, check=False, env=alone)
    assert whole.returncode == 0
    pair = together(2, folder, *program, *words, "-o", "shared.h5")
    wait_for(folder / f"shared.h5{CHECKPOINT}", pair)
    os.killpg(pair.pid, signal.SIGTERM)
    pair.communicate(timeout=120)
    assert not (folder / "shared.h5").exists()
    assert (folder / f"shared.h5{CHECKPOINT}").exists()
    command = [sys.executable, *program, *map(str, words), "-o", "shared.h5"]
    rest = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=alone)
    assert "continuing after" in rest.stderr
    assert not (folder / f"shared.h5{CHECKPOINT}").exists()
    images = [read_synthetic(str(folder / name)).images for name in ("whole.h5", "shared.h5")]
    np.testing.assert_allclose(images[0], images[1], rtol=1e-3, atol=1e-3)

    out, _ = finished(together(2, folder, *program, *DISTILL, "--iterations", 2, "-o", "brief.h5"))
    assert out == "brief.h5\n"

    evaluate = ["evaluate", "whole.h5", "--seeds", 3, "--epochs", 2]
    for count, target in ((1, "one.json"), (2, "two.json")):
        out, _ = finished(together(count, folder, *program, *evaluate, "-o", target))
        assert out.strip() == target
    one, two = (
        (folder / name).read_text().split('"confusion"')[1].split('"dataset"')[0] for name in ("one.json", "two.json")
    )
    assert one == two


def test_the_networks_of_a_validation_are_shared(folder: Path) -> None:
    write_toy(folder / "held-out.h5", np.array([[9, 3, 0, 2], [2, 9, 1, 3], [4, 3, 2, 9]]), val=3)
    words = ["-m", "fairdd_cli", "distill", "held-out.h5", *DISTILL[2:], "--iterations", 3, "--validate", 2]
    words += ["--validate-networks", 3, "--validate-epochs", 2, "--keep", "best"]
    for count in (1, 2):
        finished(together(count, folder, *words, "-o", f"validated-{count}.h5"))
    one, two = (read_synthetic(str(folder / f"validated-{count}.h5")) for count in (1, 2))
    assert one.history.validation is not None
    assert two.history.validation is not None
    assert two.history.validation.correct.shape == (3, 3, 3, 4)
    # The first images are the same bits, later ones differ in the last digits.
    assert np.array_equal(one.history.validation.correct[0], two.history.validation.correct[0])


def test_a_lost_process_ends_the_job_with_a_line_and_a_checkpoint(folder: Path) -> None:
    words = [*DISTILL, "--iterations", 100_000, "--checkpoint-every", 0, "-o", "lost.h5"]
    pair = together(2, folder, "-m", "fairdd_cli", *words)
    wait_for(folder / f"lost.h5{CHECKPOINT}", pair)
    os.kill(workers(pair.pid)[1], signal.SIGKILL)
    _, err = finished(pair, status=1)
    assert "fairdd: rank 0 of 2 lost another rank" in err or "fairdd: interrupted" in err
    assert "the same command continues it" in err
    assert not (folder / "lost.h5").exists()
    assert (folder / f"lost.h5{CHECKPOINT}").exists()


def test_what_is_wrong_is_said_once(folder: Path) -> None:
    _, err = finished(together(2, folder, "-m", "fairdd_cli", *DISTILL, "--sampling", "odd", "-o", "x.h5"), status=2)
    assert err.count("fairdd: unknown sampling") == 1
    _, err = finished(together(2, folder, "-m", "fairdd_cli", *DISTILL, "-o", "-"), status=2)
    assert err.count("give files") == 1
    words = [*DISTILL, "--batch-real", 1, "--sampling", "proportional", "-o", "x.h5"]
    _, err = finished(together(4, folder, "-m", "fairdd_cli", *words), status=2)
    assert err.count("4 ranks are too many") == 1
    assert not list(folder.glob("x.h5*"))


class Second(Processes):
    """The second of two processes, of which the first has only fives."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.add_(5)


def test_what_processes_settle_on_is_the_first_one_s() -> None:
    runtime = Runtime(torch.device("cpu"), processes=Second(1, 2))
    assert runtime.broadcast(np.array([1, 2])).tolist() == [5, 5]
    assert runtime.broadcast(torch.tensor([1.0, 2.0])).tolist() == [5.0, 5.0]
    assert runtime.without_group().broadcast(np.array([1, 2])).tolist() == [1, 2]


def test_shares_cover_everything_once() -> None:
    for count, total in ((2, 10), (3, 10), (4, 3)):
        parts = [Processes(rank, count).shard(total) for rank in range(count)]
        assert [index for part in parts for index in range(total)[part]] == list(range(total))
    assert Processes(1, 2).for_classes(3) == (slice(1, 3), Processes())


def workers(agent: int) -> list[int]:
    """The processes below torchrun's own, by rank."""
    below = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    ranked = {}
    for process in below:
        environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        ranked |= {int(entry[5:]): int(process) for entry in environment if entry.startswith(b"RANK=")}
    return [ranked[rank] for rank in sorted(ranked)]


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    """Until the file is there; fails where the process has ended before."""
    deadline = time.monotonic() + 120
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"no {path.name}: {process.communicate()[1]}")
        time.sleep(0.05)
