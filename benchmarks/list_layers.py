"""What each layer takes to give, and to be given, the reverse lists of one search's candidates.

Run it as `python -m benchmarks.list_layers [--out FILE]`. Every round draws candidates and asks
process memory, the stored table, a redis-server started here (by Unix socket and by TCP) and the
computation for the same lists, in turn, on one thread. Embeddings and tabled values are made up:
look-ups do not mind, and that the layers agree is for the tests.
"""

import argparse
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import monotonic, perf_counter, sleep

import numpy as np
import torch

from model.core.command import exit_status
from model.core.errors import InputError
from model.core.types import Direction, HalfArray, RowArray
from model.core.vectors import l2_normalised
from model.reverse_lists.layers import ComputedLists, ListLayer, MemoryLayer, StoredLists
from model.reverse_lists.redis_door import RedisDoor
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import RedisOptions

VERSION, DIRECTION = "benchmark", Direction.TEXT_TO_IMAGE
WARM_UP, START_SECONDS = 3, 10.0
MEMORY, STORED, UNIX, TCP, COMPUTED = (
    "process memory",
    "stored table",
    "Redis, Unix socket",
    "Redis, TCP on this machine",
    "computation",
)
CONCLUSION = """\
The layers are asked in this order. The stored table is the quickest and has every list, so where an
index stores its lists nothing else is asked. Otherwise the lists kept in process memory come first
(each use is recorded there, which is what it costs over the table), then Redis, then the
computation. The table lay in the page cache: read from a cold disk it costs what the disk costs.
`p50 ms to keep` is what handing the same lists to a layer takes, once they were computed.
The best round is what others' work on the machine disturbs least.
"""
Spent = dict[str, list[float]]


@dataclass(frozen=True)
class Case:
    """What is asked: lists (N, z) of items (N, D), of which each search wants some."""

    items: HalfArray
    bank: HalfArray
    table: HalfArray
    candidates: int

    def rows(self, rng: np.random.Generator) -> RowArray:
        """Rows (C,) of one search, each once."""
        return rng.choice(len(self.table), self.candidates, replace=False).astype(np.int64)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    root = argparse.ArgumentParser(prog="python -m benchmarks.list_layers", description=__doc__)
    root.add_argument("--items", type=int, default=50_000)
    root.add_argument("--bank", type=int, default=16_384)
    root.add_argument("--dim", type=int, default=512)
    root.add_argument("--z", type=int, default=128)
    root.add_argument("--candidates", type=int, default=200)
    root.add_argument("--rounds", type=int, default=100)
    root.add_argument("--out", type=Path, help="also write the table to this file")
    told = root.parse_args(argv)
    return exit_status("benchmarks.list_layers", lambda: _run(told))


def _run(told: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="layers") as name, redis_server(Path(name)) as urls:
        case = make_case(Path(name), told)
        given, taken = measure(case, urls, told.rounds)
    text = report(told, given, taken)
    print(text, end="")
    if told.out is not None:
        told.out.write_text(text, "utf-8")


def make_case(folder: Path, told: argparse.Namespace) -> Case:
    """Unit vectors at random, and a table of descending values, mapped as an index maps them."""
    rng = np.random.default_rng(0)
    items, bank = (
        l2_normalised(rng.standard_normal((n, told.dim), dtype=np.float32)).astype(np.float16)
        for n in (told.items, told.bank)
    )
    values = -np.sort(-rng.random((told.items, told.z), dtype=np.float32), axis=1)
    np.save(folder / "items.npy", items)
    np.save(folder / "table.npy", values.astype(np.float16))
    mapped, table = (
        np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("items", "table")
    )
    return Case(mapped, bank, table, told.candidates)


def measure(case: Case, urls: dict[str, str], rounds: int) -> tuple[Spent, Spent]:
    """Milliseconds of each layer in every round: of giving the lists, and of being given them."""
    z = case.table.shape[1]
    doors = [RedisDoor(url, RedisOptions(timeout_seconds=10.0)) for url in urls.values()]
    shared = [RedisLayer(door, VERSION, DIRECTION, z) for door in doors]
    memory = MemoryLayer(len(case.table), z, case.table.nbytes)
    layers: dict[str, ListLayer] = {MEMORY: memory, **dict(zip(urls, shared, strict=True))}
    asked = {**layers, STORED: StoredLists(case.table)}
    computed = ComputedLists(case.items, case.bank, z)
    given: Spent = {name: [] for name in (MEMORY, STORED, *urls, COMPUTED)}
    taken: Spent = {name: [] for name in layers}
    rng = np.random.default_rng(1)
    for _ in range(WARM_UP + rounds):
        rows = case.rows(rng)
        lists = case.table[rows]
        for name, layer in layers.items():
            taken[name].append(_milliseconds(partial(layer.put, rows, lists)))
        for name, layer in asked.items():
            given[name].append(_milliseconds(partial(_give, layer, rows, lists)))
        given[COMPUTED].append(_milliseconds(partial(computed.lists, rows)))
    for door in doors:
        door.close()
    return given, taken


def _give(layer: ListLayer, rows: RowArray, lists: HalfArray) -> None:
    found = layer.get(rows)
    if found.lists.shape != lists.shape:
        raise InputError(f"{layer.name} gave {found.lists.shape} of {lists.shape} values")


def report(told: argparse.Namespace, given: Spent, taken: Spent) -> str:
    """The figures as a page of Markdown, the quickest layer first."""
    middle = {name: float(np.median(spent[WARM_UP:])) for name, spent in given.items()}
    least, most = min(middle.values()), middle[COMPUTED]
    lines = [
        "# Where reverse lists come from",
        "",
        f"Lists (z = {told.z}) of {told.candidates} candidates out of {told.items:,}, bank of "
        f"{told.bank:,} at D = {told.dim}: milliseconds to have all of them from one layer. "
        f"{told.rounds} rounds in one run, every layer asked for the same lists in each, one "
        f"thread; {_machine()}.",
        "",
        "```sh",
        "python -m benchmarks.list_layers --out benchmarks/list_layers.md",
        "```",
        "",
        "| layer | p50 ms | p95 ms | best ms | p50 / quickest | computation / p50 "
        "| p50 ms to keep |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(middle, key=middle.__getitem__):
        p95, best = np.percentile(given[name][WARM_UP:], (95, 0))
        kept = f"{np.median(taken[name][WARM_UP:]):.3f}" if name in taken else "-"
        lines.append(
            f"| {name} | {middle[name]:.3f} | {p95:.3f} | {best:.3f} | {middle[name] / least:.1f} "
            f"| {most / middle[name]:,.0f} | {kept} |"
        )
    return "\n".join([*lines, "", CONCLUSION])


@contextmanager
def redis_server(folder: Path) -> Iterator[dict[str, str]]:
    """URLs of a server of our own, by the name of the layer that uses them."""
    if shutil.which("redis-server") is None:
        raise InputError("a redis-server is needed on the PATH, there is none")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ["--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(folder / "s")]
    command = ["redis-server", *where, "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(folder / "s")
        yield {UNIX: f"unix://{folder / 's'}", TCP: f"redis://127.0.0.1:{port}"}
    finally:
        process.kill()
        process.wait()


def _wait_for(path: Path) -> None:
    end = monotonic() + START_SECONDS
    while not path.exists():
        if monotonic() > end:
            raise InputError(f"redis-server did not open {path} in {START_SECONDS:.0f} s")
        sleep(0.02)


def _machine() -> str:
    versions = f"redis-py {version('redis')}, torch {torch.__version__}, numpy {np.__version__}"
    busy = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f}"
    return f"{platform.machine()}, {busy}, Python {platform.python_version()}, {versions}"


def _milliseconds(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return 1e3 * (perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
