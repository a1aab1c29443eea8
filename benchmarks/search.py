"""Search without encoding on 100,000 synthetic items and one core, beside a flat faiss search.

Run it as `python -m benchmarks.search [--json FILE]`. The items are clustered unit vectors with
a falling spectrum, the queries noisy copies of items. They are searched in a published index,
opened as the service opens it; its reverse lists are computed first, timed apart. Memory is
measured in a process of its own, with stored lists and with lazy ones.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from model.ann.faiss_door import FlatIndex, set_threads
from model.artifact.items import NO_ROW, Item
from model.artifact.manifest import BankInfo, HeadsSource, ListsKind, Manifest
from model.artifact.reader import open_artifact
from model.artifact.store import VersionStore
from model.artifact.writer import ArtifactWriter
from model.cascade import Cascade, SearchOptions
from model.core.types import CandidateBudget, Direction, FloatArray, HalfArray, Modality, RerankMode
from model.core.vectors import l2_normalised
from model.encoders.opening import vectors_only
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.weights import StageTwo
from model.reverse_lists.compute import reverse_lists

K = 10
DIM = 512
CLUSTERS = 2000
DIRECTION = Direction.TEXT_TO_IMAGE
RECALL_QUERIES = 500
# As many candidates as 100,000 items give, from a tenth of them.
WARM_ITEMS = 10_240
MEMORY_QUERIES = {ListsKind.STORED: 50, ListsKind.LAZY: 20}  # lazy lists are computed first
WARM_BUDGET = CandidateBudget(keep_hash=0.8, keep_pq=0.1)


class Workload(NamedTuple):
    """Unit rows: items (N, D), bank (B, D) and queries (Q, D)."""

    items: HalfArray
    bank: HalfArray
    queries: FloatArray


def make_workload(n_items: int, n_bank: int, n_queries: int, seed: int) -> Workload:
    """Clustered items whose variance falls along the axes, as embeddings' does."""
    rng = np.random.default_rng(seed)
    spectrum = (1.0 / np.sqrt(1.0 + np.arange(DIM))).astype(np.float32)
    centres = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)

    def near(points: FloatArray, noise: float) -> FloatArray:
        return points + noise * rng.standard_normal(points.shape, dtype=np.float32)

    items = near(centres[rng.integers(CLUSTERS, size=n_items)], 0.7)
    texts = near(items[rng.integers(n_items, size=n_bank + n_queries)], 0.3)
    items, texts = l2_normalised(items * spectrum), l2_normalised(texts * spectrum)
    return Workload(items.astype(np.float16), texts[:n_bank].astype(np.float16), texts[n_bank:])


def write_index(root: Path, work: Workload, z: int, seed: int) -> dict[str, float]:
    """Publish the items with a bank of texts and stored lists; returns each step's seconds."""
    seconds = {}
    given = {Modality.IMAGE: work.items, Modality.TEXT: work.bank}
    began = perf_counter()
    heads = fit_heads(HeadsConfig(embedding_dim=DIM), given, seed)
    seconds["fit_heads"] = perf_counter() - began
    began = perf_counter()
    codes = heads.encode(Modality.IMAGE, work.items)
    seconds["encode"] = perf_counter() - began
    began = perf_counter()
    lists = reverse_lists(work.items, work.bank, z)
    seconds["lists"] = perf_counter() - began
    for kind in (ListsKind.STORED, ListsKind.LAZY):
        store = VersionStore(root)
        with ArtifactWriter(store, kind.value, root) as writer:
            write_items(writer, work)
            writer.heads(heads)
            writer.codes(Modality.IMAGE, codes)
            if kind is ListsKind.STORED:
                with writer.lists(Modality.IMAGE, *lists.shape) as stream:
                    stream.append(lists)
            writer.publish(manifest_of(heads, work, kind, z, seed))
    return seconds


def write_items(writer: ArtifactWriter, work: Workload) -> None:
    """What both kinds of lists share: ids, embeddings and the bank."""
    rows = range(len(work.items))
    with writer.items(Modality.IMAGE) as table:
        table.append([Item(id=f"item-{row}", modality=Modality.IMAGE, row=row) for row in rows])
    with writer.embeddings(Modality.IMAGE, *work.items.shape) as stream:
        stream.append(work.items)
    writer.bank(Modality.TEXT, work.bank)
    writer.bank_partner(np.full(len(work.bank), NO_ROW, dtype=np.int64))


def manifest_of(heads: Heads, work: Workload, lists: ListsKind, z: int, seed: int) -> Manifest:
    """What a build of these vectors would say."""
    return Manifest(
        version=lists.value,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        build_key=lists.value,
        gallery=".",
        layout="embeddings",
        encoder=vectors_only(DIM).identity,
        heads=heads.config,
        heads_digest=heads.digest,
        heads_source=HeadsSource.FITTED,
        counts={Modality.IMAGE: len(work.items)},
        skipped=0,
        thumbnails=False,
        bank=BankInfo(source="queries", sizes={Modality.TEXT: len(work.bank)}, seed=seed, z=z),
        lists=lists,
        budget=CandidateBudget(),
        stage_two=StageTwo(),
        options={},
        quality={},
        seconds={},
    )


def open_cascade(root: Path, lists: ListsKind = ListsKind.STORED) -> Cascade:
    """The cascade that the service would open."""
    return Cascade.from_artifact(open_artifact(root, lists.value))


def p50_milliseconds(search: Callable[[FloatArray], object], queries: FloatArray) -> float:
    """The median time of one query (1, D)."""
    spent = []
    for query in queries:
        began = perf_counter()
        search(query[None])
        spent.append(1e3 * (perf_counter() - began))
    return float(np.median(spent))


def compare(directory: Path, work: Workload) -> dict[str, float]:
    """p50 of both searches in this process, and how much of the exact top 10 is kept."""
    cascade, flat = open_cascade(directory), FlatIndex(work.items.astype(np.float32))
    full, plain = SearchOptions(k=K), SearchOptions(k=K, rerank=RerankMode.NONE)

    def search(query: FloatArray) -> object:
        return cascade.search(DIRECTION, query, full)

    p50_milliseconds(search, work.queries[:20])  # maps the files in
    ours = p50_milliseconds(search, work.queries[20:220])
    theirs = p50_milliseconds(lambda query: flat.search(query, K), work.queries[20:60])
    exact = flat.search(work.queries[:RECALL_QUERIES], K)[1]
    found = [r.rows for r in cascade.search(DIRECTION, work.queries[:RECALL_QUERIES], plain)]
    shared = [np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]
    return {
        "cascade_p50_ms": ours,
        "flat_p50_ms": theirs,
        "ratio": ours / theirs,
        "recall_at_10": float(np.mean(shared)),
    }


def stage_milliseconds(directory: Path, queries: FloatArray) -> dict[str, float]:
    """The median of each stage's own time."""
    cascade = open_cascade(directory)
    stages = [
        cascade.search(DIRECTION, query[None], SearchOptions(k=K))[0].milliseconds
        for query in queries
    ]
    return {f"{name}_p50_ms": float(np.median([s[name] for s in stages])) for name in stages[0]}


def anonymous_bytes() -> int:
    """This process's anonymous resident memory, without what was freed and is only kept ready."""
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/self/status tells no RssAnon")


def measure_memory(root: Path, lists: ListsKind) -> dict[str, float]:
    """Bytes per item that opening the structures, and then searching, add to this process.

    A small index with the same bank is opened and searched first: what as many candidates leave
    behind there (libraries, their buffers) is the process's own. What searching still adds is
    the cache of lazy lists.
    """
    queries = np.load(root / "queries.npy", allow_pickle=False)
    tiny = open_cascade(root / "tiny", lists)
    before = anonymous_bytes()
    cascade = open_cascade(root, lists)
    opened = anonymous_bytes() - before
    search_all(tiny, queries, WARM_BUDGET)
    warm = anonymous_bytes()
    search_all(cascade, queries, CandidateBudget())
    searched = opened + max(0, anonymous_bytes() - warm)
    n_items = len(cascade.sides[Modality.IMAGE])
    return {
        f"{lists}_opened_bytes_per_item": opened / n_items,
        f"{lists}_searched_bytes_per_item": searched / n_items,
    }


def search_all(cascade: Cascade, queries: FloatArray, budget: CandidateBudget) -> None:
    """Search the queries one by one."""
    for query in queries:
        cascade.search(DIRECTION, query[None], SearchOptions(k=K, budget=budget))


def memory_in_fresh_process(root: Path, queries: FloatArray, lists: ListsKind) -> dict[str, float]:
    """`measure_memory` where nothing else was ever allocated."""
    np.save(root / "queries.npy", queries)
    command = [sys.executable, "-m", "benchmarks.search", "--memory-of", str(root)]
    command += ["--lists", lists.value]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def benchmark(options: argparse.Namespace) -> dict[str, float]:
    """Every figure of the run, by name."""
    work = make_workload(options.items, options.bank, 600, options.seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        seconds = write_index(directory, work, options.z, options.seed)
        tiny = Workload(work.items[:WARM_ITEMS], work.bank, work.queries)
        write_index(directory / "tiny", tiny, options.z, options.seed)
        one_core()
        figures = compare(directory, work)
        figures |= stage_milliseconds(directory, work.queries[:100])
        for lists, n_queries in MEMORY_QUERIES.items():
            figures |= memory_in_fresh_process(directory, work.queries[:n_queries], lists)
    return figures | {f"{step}_seconds": value for step, value in seconds.items()}


def one_core() -> None:
    """Stay on one core, with one thread in each library, children included."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    set_threads(1)
    torch.set_num_threads(1)


def main() -> None:
    """Print the figures as a table, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--bank", type=int, default=16_384)
    parser.add_argument("--z", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lists", type=ListsKind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of is not None:
        print(json.dumps(measure_memory(options.memory_of, options.lists)))
        return
    figures = benchmark(options)
    for name, value in figures.items():
        print(f"{name:32s}{value:12.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
