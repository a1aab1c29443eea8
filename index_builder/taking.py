"""What a checkpoint may hold beside its encoder and heads."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from model.core.errors import InputError

Reranker = TypeVar("Reranker")


def taken(
    path: Path, name: str, load: Callable[[Path], Reranker], *, wanted: bool | None
) -> Reranker | None:
    """The re-ranker of a checkpoint's file, None where there is none or it was not wanted.

    Raises:
        InputError: it was asked for, and the checkpoint has none.
        CheckpointError: its file cannot be read.
    """
    if wanted is False:
        return None
    if path.exists():
        return load(path)
    if wanted:
        raise InputError(f"--{name} needs {path} (meet-train {name}), there is none")
    return None
