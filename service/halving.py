"""Work on many things at once, so that one that fails fails alone."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import torch

from service.errors import DeviceMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome: TypeAlias = Result | Exception
Note: TypeAlias = Callable[[Exception], None]

OUT_OF_MEMORY = "out of memory"  # how drivers say it in a plain RuntimeError


def in_halves(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]], halved: Note
) -> list[Outcome[Result]]:
    """Each item's result, or the exception that it raises when it is worked on alone.

    What fails together is halved and tried again: a bad item is found in log2(B) steps, and a
    batch that was too large for the device's memory becomes batches that fit.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
        failure = _named(error)
    if isinstance(failure, DeviceMemoryError) and torch.cuda.is_available():
        torch.cuda.empty_cache()  # after the error's frames, which held on to what they had
    if len(items) == 1:
        return [failure]
    halved(failure)
    middle = len(items) // 2
    return in_halves(items[:middle], work, halved) + in_halves(items[middle:], work, halved)


def _named(error: Exception) -> Exception:
    """The error; a lack of memory, whoever reports it, under one name."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if not lacking and not (isinstance(error, RuntimeError) and OUT_OF_MEMORY in str(error)):
        return error
    return DeviceMemoryError("the device has no memory for this search, try again later")
