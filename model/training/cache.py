"""Features that cost minutes, kept beside the checkpoint and resumed after a kill."""

import fcntl
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.records import Collection
from model.progress import bar


def fingerprint(collection: Collection, *parts: object) -> str:
    """A digest of what a collection holds and of whatever else features depend on."""
    total = hashlib.sha256(repr(parts).encode())
    states: dict[Path, str] = {}
    for record in collection.records:
        place = None
        if record.image is not None:
            path = record.image.path
            if path not in states:  # a tar of many images is asked once
                states[path] = _state(path)
            place = (states[path], record.image.offset, record.image.length)
        total.update(repr((record.id, place, record.captions)).encode())
    return total.hexdigest()[:16]


def _state(path: Path) -> str:
    """Place, size and time of a file: what changes when its content does."""
    stat = path.stat()
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def cached(
    path: Path,
    n_rows: int,
    blocks: Sequence[slice],
    compute: Callable[[int], NDArray[np.floating]],
    label: str,
) -> NDArray[np.floating]:
    """A memory-mapped array of n_rows rows, as wide as its blocks, filled block by block.

    Finished blocks survive a kill; the file gets its name when all are there. Where two runs want
    the same one, the second waits for the first, and goes on where that one fails.
    """
    if not path.exists():
        with _alone(path):
            if not path.exists():
                _fill(path, n_rows, blocks, compute, label)
    stored: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored


def _fill(
    path: Path,
    n_rows: int,
    blocks: Sequence[slice],
    compute: Callable[[int], NDArray[np.floating]],
    label: str,
) -> None:
    partial, done = path.with_suffix(".partial"), path.with_suffix(".done")
    first = json.loads(done.read_text()) if done.exists() and partial.exists() else 0
    for i in bar(range(first, len(blocks)), desc=label, initial=first, total=len(blocks)):
        block = compute(i)
        shape = (n_rows, *block.shape[1:])
        out = np.lib.format.open_memmap(partial, "r+" if i else "w+", block.dtype, shape)
        out[blocks[i]] = block
        out.flush()
        replace_text(done, json.dumps(i + 1))
    partial.rename(path)
    done.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a file that is to be written; the lock of a killed process frees itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run, which writes {path}", file=sys.stderr)  # noqa: T201
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
        if path.exists():  # whoever waits, or comes now, finds it there without the lock
            lock.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
