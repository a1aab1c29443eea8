"""Seconds that `meet-build` spends on precomputed embeddings, stage by stage.

    python benchmarks/build.py [--items 100000] [--dim 512] [--texts] [--lists stored|lazy]

The bar: 100,000 embeddings of 512 dimensions within a minute on 2 cores, reverse lists apart.
Also printed: anonymous memory that opening the index takes, per item, at most 64 bytes.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from index_builder.options import BuildOptions, ListsChoice
from index_builder.pipeline import build_version
from index_builder.planning import make_plan
from model.artifact.manifest import Manifest
from model.artifact.reader import open_artifact
from model.artifact.store import VersionStore

BLOCK = 1 << 15
CLUSTERS = 1000


def main() -> None:
    """Make a gallery, build it, print what it took."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        gallery, root = Path(folder, "gallery"), Path(folder, "index")
        write_gallery(gallery, arguments.items, arguments.dim, texts=arguments.texts)
        options = BuildOptions(
            gallery=str(gallery), encoder="none", out=root, lists=ListsChoice(arguments.lists)
        )
        began = perf_counter()
        plan, store = make_plan(options), VersionStore(root)
        planned = perf_counter() - began
        with store.lock():
            manifest = build_version(plan, store, show_progress=False)
        _print(manifest, planned, perf_counter() - began)
        print(f"opening: {anonymous_per_item(root):.1f} anonymous bytes per item")


def write_gallery(folder: Path, n_items: int, dim: int, *, texts: bool) -> None:
    """Clustered unit vectors; with texts, one near each image."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, dim), dtype=np.float32)
    for name, noise in [("image.npy", 1.0), *([("text.npy", 1.1)] if texts else [])]:
        own = np.random.default_rng(1)  # the same clusters and items for both
        array = np.lib.format.open_memmap(folder / name, "w+", np.float32, (n_items, dim))
        for start in range(0, n_items, BLOCK):
            count = min(BLOCK, n_items - start)
            points = centres[own.integers(CLUSTERS, size=count)]
            points = points + own.standard_normal((count, dim), dtype=np.float32)
            points += (noise - 1.0) * rng.standard_normal((count, dim), dtype=np.float32)
            array[start : start + count] = points / np.linalg.norm(points, axis=1, keepdims=True)
        array.flush()


def anonymous_per_item(root: Path) -> float:
    """Bytes of anonymous memory that an open index adds, per item."""
    first = open_artifact(root)  # libraries are there now; kept, so that its memory is not reused
    before = anonymous_bytes()
    second = open_artifact(root)
    return (anonymous_bytes() - before) / sum(len(second.side(m)) for m in first.sides)


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process."""
    status = Path("/proc/self/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


def _print(manifest: Manifest, planned: float, total: float) -> None:
    lists = manifest.seconds["lists"]
    print(f"items: {sum(manifest.counts.values())}, lists: {manifest.lists.value}")
    for name, spent in {"plan": planned, **manifest.seconds}.items():
        print(f"{name:<10}{spent:8.2f} s")
    rest = total - planned - sum(manifest.seconds.values())
    print(f"{'publish':<10}{rest:8.2f} s")
    print(f"{'total':<10}{total:8.2f} s, without lists {total - lists:.2f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--texts", action="store_true", help="a text beside every image")
    parser.add_argument("--lists", default="stored", choices=[one.value for one in ListsChoice])
    parser.add_argument("--work", type=Path, help="where temporary files go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
