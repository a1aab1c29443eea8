"""What a scene is: two to four different coloured shapes at their places on a background."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, assert_never

from model.core.errors import InputError

MIN_OBJECTS = 2
MAX_OBJECTS = 4

# Two centres this far apart along an axis look plainly apart along it. Objects that do not touch
# are farther apart than this along at least one axis, so every pair has a relation to tell.
RELATION_GAP = 0.15


class Shape(StrEnum):
    """The figure an object is drawn as."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    HEART = "heart"
    ARROW = "arrow"
    CROSS = "cross"
    RING = "ring"
    CRESCENT = "crescent"
    DIAMOND = "diamond"


class Colour(StrEnum):
    """The colour an object is filled with."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    TURQUOISE = "turquoise"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"
    BROWN = "brown"
    BLACK = "black"


class Size(StrEnum):
    """How large an object is against the image; the two ranges of diameters do not meet."""

    SMALL = "small"
    LARGE = "large"


class Background(StrEnum):
    """What lies behind the objects."""

    WHITE = "white"
    GREY = "grey"
    DARK = "dark"
    GRADIENT = "gradient"
    STRIPED = "striped"
    CHECKERED = "checkered"
    DOTTED = "dotted"
    GRIDDED = "gridded"


class Relation(StrEnum):
    """Where the first of two objects lies, seen from the second."""

    LEFT_OF = "left of"
    RIGHT_OF = "right of"
    ABOVE = "above"
    BELOW = "below"


class Kind(NamedTuple):
    """A coloured shape: all that tells the objects of one scene apart."""

    colour: Colour
    shape: Shape


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One coloured shape; lengths are shares of the image side, y grows downwards."""

    kind: Kind
    size: Size
    x: float
    y: float
    diameter: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawing to be; `seed` settles what captions never tell: turns, tints and clutter.

    Raises:
        InputError: fewer than two or more than four objects, or two of one colour and shape.
    """

    objects: tuple[SceneObject, ...]
    background: Background
    seed: int

    def __post_init__(self) -> None:
        n_objects = len(self.objects)
        if not MIN_OBJECTS <= n_objects <= MAX_OBJECTS:
            raise InputError(
                f"a scene holds {MIN_OBJECTS} to {MAX_OBJECTS} objects, got {n_objects}"
            )
        if len({item.kind for item in self.objects}) < n_objects:
            raise InputError(f"the coloured shapes of a scene differ, got {self.description!r}")

    @property
    def description(self) -> str:
        """The key no two scenes of a gallery share."""
        return describe(item.kind for item in self.objects)


def describe(kinds: Iterable[Kind]) -> str:
    """The sorted coloured shapes, such as `blue ring, red star`.

    Every caption names exactly these, so scenes with different descriptions never share a
    caption. Places, sizes and backgrounds stay out: a caption may leave them untold.
    """
    return ", ".join(sorted(f"{kind.colour} {kind.shape}" for kind in kinds))


def relation_holds(relation: Relation, first: SceneObject, second: SceneObject) -> bool:
    """Whether `first` lies that way from `second`, by `RELATION_GAP` or more."""
    match relation:
        case Relation.LEFT_OF:
            gap = second.x - first.x
        case Relation.RIGHT_OF:
            gap = first.x - second.x
        case Relation.ABOVE:
            gap = second.y - first.y
        case Relation.BELOW:
            gap = first.y - second.y
        case _:
            assert_never(relation)
    return gap >= RELATION_GAP


def relations_between(first: SceneObject, second: SceneObject) -> tuple[Relation, ...]:
    """Every relation that holds of the pair: one or two for objects that do not touch."""
    return tuple(relation for relation in Relation if relation_holds(relation, first, second))


def spacing(first: SceneObject, second: SceneObject) -> float:
    """The room left between the circles around two objects; below 0 they may overlap."""
    centres = math.hypot(first.x - second.x, first.y - second.y)
    return centres - (first.diameter + second.diameter) / 2
