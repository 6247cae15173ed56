"""Measures each piece of the work against a plain reference implementation and against what the machine can do.

    python recipes/benchmarks/bench.py --json bench.json
    python recipes/benchmarks/bench.py --only gm-fair-step --groups 32

Ours and the reference run in processes of their own, one of them at a time, in turn, so that whatever else the
machine does falls on both; a figure is the median of the repetitions. The limit is the rate of the network's own
convolutions, alone, in the best number of images at a time, measured in the same turns; a piece's share of it counts
the floating-point operations of its convolutions and matrix products as if there were nothing else to do. The
reference's process has the C library's default memory management, as the public implementations do. Images are
generated; times don't depend on what they show.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

from _pieces import PIECES, Setting, ours, plain
from _workers import Worker


def operations(name: str, setting: Setting) -> float:
    """Floating-point operations of the convolutions and matrix products of a piece, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    work, share = ours(name, replace(setting, compile="off"))
    with FlopCounterMode(display=False) as counter:
        work()
    return share * counter.get_total_flops()


def limit(setting: Setting) -> tuple[dict[str, float], Callable[[], float]]:
    """Operations a second of the network's convolutions and of matrix products, bytes a second of copying; and what
    measures the seconds of one operation of these convolutions again.
    """
    import torch
    from torch import nn

    from fairdd_cli.networks import parse_network
    from fairdd_cli.runtime import open_runtime

    runtime = open_runtime(setting.device, setting.precision)
    network = parse_network(f"convnet:width={setting.width}").build((3, setting.side, setting.side), setting.classes)
    layers = [module for module in runtime.prepare_module(network).modules() if isinstance(module, nn.Conv2d)]
    synchronize = torch.cuda.synchronize if setting.device != "cpu" else lambda: None
    kind = torch.bfloat16 if setting.precision == "bf16" else torch.float32
    for layer in layers:
        layer.to(kind)

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(12):
            start = time.perf_counter()
            work()
            synchronize()
            times.append(time.perf_counter() - start)
        return min(times[2:])

    ways: list[tuple[float, float, Callable[[], None]]] = []  # (operations a second, operations, how)
    for images in (8, 16, 32, 64) if setting.device == "cpu" else (256, 1024):
        sides = [setting.side >> depth for depth in range(len(layers))]
        inputs = [
            torch.randn(images, layer.in_channels, side, side, device=runtime.device, dtype=kind).contiguous(
                memory_format=torch.channels_last
            )
            for layer, side in zip(layers, sides, strict=True)
        ]
        count = sum(2 * images * side**2 * layer.weight.numel() for layer, side in zip(layers, sides, strict=True))

        def convolve(inputs: list[torch.Tensor] = inputs) -> None:
            with torch.no_grad():
                for layer, images in zip(layers, inputs, strict=True):
                    layer(images)

        ways.append((count / best(convolve), count, convolve))
    rate, count, convolve = max(ways, key=lambda way: way[0])
    a, b = (torch.randn(1024, 1024, device=runtime.device, dtype=kind) for _ in range(2))
    block, target = (torch.randn(2**26, device=runtime.device) for _ in range(2))
    rates = {
        "convolution": rate,
        "product": 2 * 1024**3 / best(lambda: a @ b),
        "copy": 2 * block.nbytes / best(lambda: target.copy_(block)),
    }
    return rates, lambda: best(convolve) / count


def work(name: str, kind: str, setting: Setting) -> None:
    """A worker: says it is ready, then times the piece once for each line that it reads."""
    if kind == "limit":
        counted = {piece: operations(piece, setting) for piece in name.split()}
        rates, again = limit(setting)
        print(json.dumps({**rates, "operations": counted}), flush=True)
        for _ in sys.stdin:
            print(again(), peak(setting), flush=True)
        return
    piece = ours(name, setting) if kind == "ours" else plain(name, setting)
    if piece is None:
        print("none", flush=True)
        return
    run, share = piece
    run()
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(share * (time.perf_counter() - start), peak(setting), flush=True)


def peak(setting: Setting) -> int:
    """The most memory so far, in bytes."""
    if setting.device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def started(name: str, kind: str, setting: Setting, folder: str) -> Worker:
    """A process that does `kind` of the piece `name`."""
    return Worker([str(Path(__file__).resolve()), "--worker", name, kind, json.dumps(asdict(setting))], folder)


def family(
    names: list[str], setting: Setting, repetitions: int, machine: Worker, operations: dict[str, float], folder: str
) -> Iterator[dict[str, object]]:
    """The records of pieces that are measured in turn, with the limit of the `machine`."""
    workers = {(name, kind): started(name, kind, setting, folder) for name in names for kind in ("ours", "reference")}
    there = [worker for worker in workers.values() if worker.said == "ready"]
    machine.seconds.clear()
    for _ in range(repetitions):
        for worker in [machine, *there]:
            worker.measure()
    for worker in there:
        worker.stop()
    for name in names:
        mine, book = workers[name, "ours"], workers[name, "reference"]
        seconds = statistics.median(mine.seconds)
        ratios = [b / a for a, b in zip(mine.seconds, book.seconds, strict=False)]
        shares = [operations[name] * least / taken for least, taken in zip(machine.seconds, mine.seconds, strict=True)]
        yield {
            "piece": name,
            "seconds": seconds,
            "reference_seconds": statistics.median(book.seconds) if ratios else None,
            "ratio": statistics.median(ratios) if ratios else None,
            "limit_share": statistics.median(shares) if operations[name] else None,
            "peak_bytes": mine.peak,
            "reference_peak_bytes": book.peak or None,
        }


def main() -> None:
    """Measures what was chosen and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [name for names in PIECES.values() for name in names]
    parser.add_argument("--only", action="append", metavar="PIECE", choices=every, help=f"one of {', '.join(every)}")
    parser.add_argument("--json", metavar="FILE", help="write the records there, too")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    for item in fields(Setting):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=type(item.default), default=item.default)
    given = parser.parse_args()
    if given.worker:
        name, kind, setting = given.worker
        work(name, kind, Setting(**json.loads(setting)))
        return
    setting = Setting(**{item.name: getattr(given, item.name) for item in fields(Setting)})
    chosen = given.only or every
    with tempfile.TemporaryDirectory() as folder:
        machine = started(" ".join(chosen), "limit", setting, folder)
        rates = json.loads(machine.said)
        print(f"{platform.machine()}, {os.cpu_count()} cores; {setting}")
        print(
            f"limit: convolutions {rates['convolution'] / 1e9:,.0f} and matrix products {rates['product'] / 1e9:,.0f} "
            f"GFLOP/s, copying {rates['copy'] / 1e9:.0f} GB/s"
        )
        print(f"{'piece':<18}{'seconds':>9}{'reference':>10}{'ratio':>7}{'of limit':>10}{'peak':>9}", flush=True)
        records = []
        for names in PIECES.values():
            some = [name for name in names if name in chosen]
            for record in family(some, setting, given.repetitions, machine, rates["operations"], folder):
                records.append(record)
                print(row(record), flush=True)
        machine.stop()
    if given.json:
        Path(given.json).write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def row(record: dict[str, object]) -> str:
    """A line of the table."""

    def cell(key: str, form: str, width: int, scale: float = 1.0, unit: str = "") -> str:
        value = record[key]
        return f"{'' if value is None else format(scale * float(str(value)), form) + unit:>{width}}"

    return (
        f"{record['piece']:<18}{cell('seconds', '.3f', 9)}{cell('reference_seconds', '.3f', 10)}"
        f"{cell('ratio', '.2f', 7)}{cell('limit_share', '.0f', 10, 100, ' %')}"
        f"{cell('peak_bytes', ',.0f', 9, 1e-6, ' MB')}"
    )


if __name__ == "__main__":
    main()
