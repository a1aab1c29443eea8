"""Features that cost minutes, kept beside the checkpoint and resumed after a kill."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.records import Collection


def fingerprint(collection: Collection, *parts: object) -> str:
    """A digest of what a collection holds and of whatever else features depend on."""
    total = hashlib.sha256(repr(parts).encode())
    for record in collection.records:
        image = record.image
        place = (image.path.name, image.offset, image.length) if image else None
        total.update(repr((record.id, place, record.captions)).encode())
    return total.hexdigest()[:16]


def cached(
    path: Path,
    n_rows: int,
    blocks: Sequence[slice],
    compute: Callable[[int], NDArray[np.float16]],
    label: str,
) -> NDArray[np.float16]:
    """A memory-mapped fp16 array of n_rows rows as wide as the first block, filled block by block.

    Finished blocks survive a kill; the file gets its name when all are there.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, done = path.with_suffix(".partial"), path.with_suffix(".done")
        first = json.loads(done.read_text()) if done.exists() and partial.exists() else 0
        for i in tqdm(range(first, len(blocks)), desc=label, initial=first, total=len(blocks)):
            block = compute(i)
            shape = (n_rows, *block.shape[1:])
            out = np.lib.format.open_memmap(partial, "r+" if i else "w+", np.float16, shape)
            out[blocks[i]] = block
            out.flush()
            done.write_text(json.dumps(i + 1))
        partial.rename(path)
        done.unlink(missing_ok=True)
    stored: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored
