"""Threads, cores, worker processes and the cache of kernels, on machines that are not ideal."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Fairdd, write_toy

import fairdd_cli
from fairdd_cli.artifacts import cache_folder, private_folder, read_evaluation, read_synthetic
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime.compilation import KERNEL_CACHE, set_kernel_cache
from fairdd_cli.system import (
    WAITING,
    configure_threads,
    cpu_model,
    cpu_quota,
    launched_by_torchrun,
    usable_cores,
)


def test_threads_spin_briefly_unless_the_user_says_how_they_wait() -> None:
    environment: dict[str, str] = {}
    configure_threads(environment)
    assert 0 < int(environment["GOMP_SPINCOUNT"]) < 300_000
    for name in WAITING:
        chosen = {name: "active"}
        configure_threads(chosen)
        assert {key: value for key, value in chosen.items() if key in WAITING} == {name: "active"}


def test_the_program_chooses_before_torch_is_loaded(tmp_path: Path) -> None:
    program = """
        import os, sys
        import fairdd_cli.__main__ as entry
        assert "torch" not in sys.modules
        sys.argv = ["fairdd", "--version"]
        try:
            entry.main()
        finally:
            print(os.environ["GOMP_SPINCOUNT"])
            assert "torch" not in sys.modules
    """
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].isdecimal()


def test_an_empty_choice_is_none() -> None:
    environment = dict.fromkeys((*WAITING, "OMP_NUM_THREADS"), "")
    configure_threads(environment)
    assert set(environment) - {"OMP_NUM_THREADS"} == {"GOMP_SPINCOUNT"}
    assert all(environment.values())


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 0.5),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, math.inf),
        ("4:memory:/x\n", {"cpu/cpu.cfs_quota_us": "1\n", "cpu/cpu.cfs_period_us": "1\n"}, math.inf),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 2),
        # in a container the path is that outside, and what is mounted is the container's own
        ("3:cpu:/docker/7\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_a_quota_counts_in_cores(tmp_path: Path, membership: str, files: dict[str, str], cores: float) -> None:
    own = tmp_path / "membership"
    own.write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cpu_quota(tmp_path / "mounted", own) == cores


def test_a_quota_below_the_affinity_limits_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, cores in ((2.5, "3"), (0.2, "1"), (8.0, None), (math.inf, None)):
        monkeypatch.setattr("fairdd_cli.system.cpu_quota", lambda quota=quota: quota)
        environment: dict[str, str] = {}
        configure_threads(environment)
        assert environment.get("OMP_NUM_THREADS") == cores
        assert usable_cores() == int(cores or 8)
        environment = {"OMP_NUM_THREADS": "7"}
        configure_threads(environment)
        assert environment["OMP_NUM_THREADS"] == "7"


POOLS = {
    "decoding": """
        from fairdd_cli.datasets.images.parallel import ordered_fill
        def work(task, array):
            print(os.getpid(), flush=True)
            time.sleep(600)
        def start():
            list(ordered_fill(work, range(9), (4,), 2))
    """,
    "reading": """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from fairdd_cli.system import exit_with_parent
        def work(task):
            print(os.getpid(), flush=True)
            time.sleep(600)
        def start():
            with ProcessPoolExecutor(2, get_context("spawn"), exit_with_parent) as pool:
                list(pool.map(work, range(9)))
    """,
}


@pytest.mark.parametrize("pool", POOLS)
def test_workers_die_with_their_parent(pool: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    body = textwrap.dedent(POOLS[pool])
    program.write_text(f"import os, time\n{body}\nif __name__ == '__main__':\n    start()\n")
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(600):  # 30 s at most
        workers = {worker for worker in workers if alive(worker)}
        if not workers:
            break
        time.sleep(0.05)
    parent.stdout.close()
    assert not workers


def alive(process: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_missing_for_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fairdd_cli.datasets.images import parallel
    from fairdd_cli.errors import WorkError

    def fail(*_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr("multiprocessing.context.SpawnContext.RawArray", fail)
    with pytest.raises(WorkError, match=r"No usable temporary directory.*\n.*TMPDIR.*--workers 1"):
        next(parallel.ordered_fill(lambda task, array: None, [1], (4,), 2))


def test_a_rank_without_torchrun_is_none(fairdd: Fairdd, monkeypatch: pytest.MonkeyPatch) -> None:
    done = fairdd("evaluate", "missing.h5", check=False, env={**os.environ, "RANK": "1"})
    assert done.returncode == 2
    assert "missing.h5" in done.stderr
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    assert not launched_by_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched_by_torchrun()


def test_files_say_what_computed_them(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    fairdd("distill", "toy.h5", "--method", "random", "--ipc", 2, "-o", "made.h5", env=environment)
    words = ["evaluate", "made.h5", "--network", "mlp", "--epochs", 1, "--seeds", 1]
    fairdd(*words, "--precision", "bf16", "--deterministic", "-o", "made.json", env=environment)
    versions = {"torch": str(torch.__version__), "fairdd": fairdd_cli.__version__}
    expected = {"device": cpu_model(), "threads": 1, "processes": 1, "compile": False, **versions}
    synthetic, evaluation = read_synthetic(str(tmp_path / "made.h5")), read_evaluation(str(tmp_path / "made.json"))
    assert synthetic.environment == {**expected, "precision": "fp32", "deterministic": False}
    assert evaluation.environment == {**expected, "precision": "bf16", "deterministic": True}
    other = {**environment, "OMP_NUM_THREADS": "2"}
    fairdd("distill", "toy.h5", "--method", "random", "--ipc", 2, "-o", "other.h5", env=other)
    again = read_synthetic(str(tmp_path / "other.h5"))
    assert again.environment["threads"] == 2
    assert again.digest == synthetic.digest  # of what was made, not of where


def test_kernels_are_kept_in_the_users_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(KERNEL_CACHE, raising=False)
    set_kernel_cache()
    kernels = tmp_path / "cache" / "fairdd" / "kernels"
    assert os.environ[KERNEL_CACHE] == str(kernels)
    assert kernels.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv(KERNEL_CACHE)

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("kernels") == tmp_path / ".cache" / "fairdd" / "kernels"


def test_a_cache_of_others_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels = tmp_path / "fairdd" / "kernels"
    kernels.mkdir(parents=True)
    kernels.chmod(0o777)
    assert not private_folder(kernels)
    kernels.chmod(0o770)
    assert private_folder(kernels) == kernels  # with umask 002 the group is the user's own
    with monkeypatch.context() as patched:
        patched.setattr("os.getegid", lambda: kernels.stat().st_gid + 1)
        assert not private_folder(kernels)
    kernels.chmod(0o755)
    for mode, safe in ((0o777, False), (0o775, True), (0o1777, True), (0o755, True)):
        kernels.parent.chmod(mode)  # whose owner, or who may write there, could swap what is in it
        assert private_folder(kernels) == (kernels if safe else None)
    (tmp_path / "link").symlink_to(kernels.parent)
    assert private_folder(tmp_path / "link" / "kernels") == kernels
    assert cache_folder("kernels") == kernels
    monkeypatch.setattr("os.geteuid", lambda: kernels.stat().st_uid + 1)
    found = cache_folder("kernels")
    assert found != kernels
    assert found.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv(KERNEL_CACHE, str(kernels))
    with pytest.raises(UsageError, match=f"{KERNEL_CACHE}.*you alone can write"):
        set_kernel_cache()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a folder to another user")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_cache_in_a_folder_of_others_is_not_used(tmp_path: Path, mode: int) -> None:
    kernels = tmp_path / "fairdd" / "kernels"
    kernels.mkdir(parents=True)
    assert private_folder(kernels)
    os.chown(kernels.parent, 65534, -1)
    kernels.parent.chmod(mode)
    assert private_folder(kernels) is None


def test_without_a_cache_that_can_be_written_kernels_stay_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # nothing can be made in it
    found = cache_folder("kernels")
    assert found.is_dir()
    assert not found.is_relative_to(file)
