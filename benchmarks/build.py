"""Seconds that `meet-build` spends on precomputed embeddings, stage by stage.

    python -m benchmarks.build [--items 100000] [--dim 512] [--bank 16384] [--lists stored]

A gallery of images and a bank of texts. The bar: 100,000 embeddings of 512 dimensions within
a minute on 2 cores, the reverse lists apart.
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
from model.artifact.store import VersionStore

BLOCK = 1 << 15
CLUSTERS = 1000


def main() -> None:
    """Make a gallery, build its index, print what it took."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        gallery, bank, root = (Path(folder, name) for name in ("gallery", "bank", "index"))
        write_vectors(gallery / "image.npy", arguments.items, arguments.dim)
        write_vectors(bank / "text.npy", arguments.bank, arguments.dim)
        options = BuildOptions(
            gallery=str(gallery),
            encoder="none",
            out=root,
            bank=str(bank),
            lists=ListsChoice(arguments.lists),
        )
        _build(options)


def write_vectors(path: Path, n_rows: int, dim: int) -> None:
    """Unit vectors in clusters, without ever holding them all."""
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, dim), dtype=np.float32)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, dim))
    for start in range(0, n_rows, BLOCK):
        count = min(BLOCK, n_rows - start)
        points = centres[rng.integers(CLUSTERS, size=count)]
        points += rng.standard_normal((count, dim), dtype=np.float32)
        array[start : start + count] = points / np.linalg.norm(points, axis=1, keepdims=True)
    array.flush()


def _build(options: BuildOptions) -> None:
    began = perf_counter()
    plan, store = make_plan(options), VersionStore(options.out)
    planned = perf_counter() - began
    with store.lock():
        manifest = build_version(plan, store, show_progress=False)
    _print(manifest, planned, perf_counter() - began)


def _print(manifest: Manifest, planned: float, total: float) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in manifest.counts.items())
    print(f"{counts} of D={manifest.embedding_dim}, lists {manifest.lists.value}")
    publish = total - planned - sum(manifest.seconds.values())
    for name, spent in {"plan": planned, **manifest.seconds, "publish": publish}.items():
        print(f"{name:<10}{spent:8.2f} s")
    print(f"{'total':<10}{total:8.2f} s, {total - manifest.seconds['lists']:.2f} s without lists")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--bank", type=int, default=16_384)
    parser.add_argument("--lists", default="stored", choices=[one.value for one in ListsChoice])
    parser.add_argument("--work", type=Path, help="where temporary files go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
