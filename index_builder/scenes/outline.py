"""The outlines of the shapes as polygons inside the unit circle, y growing downwards."""

import math
from typing import NamedTuple, TypeAlias

from index_builder.scenes.scene import Shape

Polygon: TypeAlias = tuple[tuple[float, float], ...]

_ARC_POINTS = 72


class Outline(NamedTuple):
    """A filled polygon, and what is cut out of it (empty for most shapes)."""

    solid: Polygon
    hole: Polygon = ()


def _disc(radius: float, centre_x: float = 0.0) -> Polygon:
    angles = (math.tau * i / _ARC_POINTS for i in range(_ARC_POINTS))
    return tuple((centre_x + radius * math.cos(a), radius * math.sin(a)) for a in angles)


def _star() -> Polygon:
    points = ((i * math.pi / 5, 0.45 if i % 2 else 1.0) for i in range(10))
    return tuple((radius * math.sin(a), -radius * math.cos(a)) for a, radius in points)


def _heart() -> Polygon:
    """The parametric heart of x = 16 sin^3 t, scaled into the unit circle."""
    points = []
    for i in range(_ARC_POINTS):
        t = math.tau * i / _ARC_POINTS
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17.7, -(y + 1.5) / 17.7))
    return tuple(points)


def _cross(arm: float, half_width: float) -> Polygon:
    a, w = arm, half_width
    right = ((w, -a), (w, -w), (a, -w), (a, w), (w, w), (w, a))
    return right + tuple((-x, -y) for x, y in right)


def _arrow() -> Polygon:
    """An arrow to the right: its upper edge from the tail to the tip, then that edge mirrored."""
    upper = ((-0.95, -0.27), (0.1, -0.27), (0.1, -0.75))
    return (*upper, (0.98, 0.0), *((x, -y) for x, y in reversed(upper)))


OUTLINES = {
    Shape.CIRCLE: Outline(_disc(0.92)),
    Shape.SQUARE: Outline(((-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7))),
    Shape.TRIANGLE: Outline(((0.0, -0.95), (0.8, 0.6), (-0.8, 0.6))),
    Shape.STAR: Outline(_star()),
    Shape.HEART: Outline(_heart()),
    Shape.ARROW: Outline(_arrow()),
    Shape.CROSS: Outline(_cross(arm=0.94, half_width=0.3)),
    Shape.RING: Outline(_disc(0.95), _disc(0.5)),
    Shape.CRESCENT: Outline(_disc(0.97), _disc(0.8, centre_x=0.48)),
    Shape.DIAMOND: Outline(((0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0))),
}
