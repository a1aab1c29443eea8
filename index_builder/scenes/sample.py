"""Seeded draws of scenes: what is in them, how large, and where."""

import itertools
from collections.abc import Iterator, Sequence
from random import Random
from typing import assert_never

from index_builder.scenes.scene import (
    Background,
    Colour,
    Kind,
    Scene,
    SceneObject,
    Shape,
    Size,
    describe,
    spacing,
)
from index_builder.scenes.split import SceneSplit, split_of

# Pairs are few (4,950 against 3.9 million sets of four), so they are drawn less often.
_COUNT_WEIGHTS = {2: 2, 3: 4, 4: 4}

_MIN_SPACING = 0.01
_EDGE_MARGIN = 0.02
_PLACES_TRIED = 40


def sample_scenes(split: SceneSplit, seed: int) -> Iterator[Scene]:
    """The scenes of a split without end, no description twice, always in the same order."""
    rng = Random(f"scenes/{split}/{seed}")
    seen: set[str] = set()
    while True:
        background = rng.choice(tuple(Background))
        kinds = _sample_kinds(background, rng)
        description = describe(kinds)
        if description in seen or split_of(description) is not split:
            continue
        seen.add(description)
        yield Scene(_arrange(kinds, rng), background, rng.getrandbits(32))


def colours_on(background: Background) -> tuple[Colour, ...]:
    """The colours that stand out against the background."""
    if background is Background.DARK:
        return tuple(c for c in Colour if c not in {Colour.BLACK, Colour.BROWN})
    return tuple(Colour)


def _sample_kinds(background: Background, rng: Random) -> list[Kind]:
    (n_objects,) = rng.choices(tuple(_COUNT_WEIGHTS), tuple(_COUNT_WEIGHTS.values()))
    pairs = itertools.product(colours_on(background), Shape)
    return rng.sample([Kind(*pair) for pair in pairs], n_objects)


def _arrange(kinds: Sequence[Kind], rng: Random) -> tuple[SceneObject, ...]:
    """The coloured shapes at sizes and places where none touches another or the edge."""
    while True:
        placed: list[SceneObject] = []
        for kind in kinds:
            found = _place(kind, placed, rng)
            if found is None:
                break
            placed.append(found)
        else:
            return tuple(placed)


def _place(kind: Kind, placed: Sequence[SceneObject], rng: Random) -> SceneObject | None:
    """The object somewhere free, or None when the chosen size found no room."""
    size = rng.choice(tuple(Size))
    diameter = rng.uniform(*_diameters(size))
    low = _EDGE_MARGIN + diameter / 2
    for _ in range(_PLACES_TRIED):
        x, y = rng.uniform(low, 1 - low), rng.uniform(low, 1 - low)
        candidate = SceneObject(kind, size, x, y, diameter)
        if all(spacing(candidate, other) >= _MIN_SPACING for other in placed):
            return candidate
    return None


def _diameters(size: Size) -> tuple[float, float]:
    match size:
        case Size.SMALL:
            return 0.26, 0.29
        case Size.LARGE:
            return 0.38, 0.44
        case _:
            assert_never(size)
