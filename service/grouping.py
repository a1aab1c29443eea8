"""Work on what belongs together, each result back in its place."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


def in_groups(
    items: Sequence[Item],
    key: Callable[[Item], Key],
    work: Callable[[Key, list[Item]], Sequence[Result]],
) -> list[Result]:
    """Each item's result, in the order of the items; those of one key are worked on at once."""
    if len(items) == 1:
        return list(work(key(items[0]), list(items)))
    places: dict[Key, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[key(item)].append(place)
    found: dict[int, Result] = {}
    for one, group in places.items():
        found |= zip(group, work(one, [items[place] for place in group]), strict=True)
    return [found[place] for place in range(len(items))]
