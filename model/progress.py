"""Progress bars on stderr: lively on a terminal, rare in a log."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

RARE_S = 10.0


def bar(
    items: Iterable[object] | None = None, desc: str = "", *, delay: float = 0.0, **options: object
) -> tqdm:
    """A bar over items, or one that is moved by `update`; `options` are tqdm's.

    Where stderr is no terminal it writes once in ten seconds at most, and nothing of what takes
    less. A figure beside it is set with `refresh=False`: it need not be drawn at each step.
    """
    if sys.stderr.isatty():
        return tqdm(items, desc, delay=delay, **options)
    return tqdm(items, desc, delay=max(delay, RARE_S), mininterval=RARE_S, **options)
