"""From a scene to its pixels: background, clutter, then the objects over both."""

import math
from random import Random

from PIL import Image, ImageDraw

from index_builder.scenes.background import Rgb, paint_background
from index_builder.scenes.outline import OUTLINES, Polygon
from index_builder.scenes.scene import Background, Colour, Scene, SceneObject
from model.core.errors import InputError

RGB = {
    Colour.RED: (214, 32, 38),
    Colour.ORANGE: (250, 132, 20),
    Colour.YELLOW: (246, 214, 30),
    Colour.GREEN: (36, 146, 58),
    Colour.TURQUOISE: (46, 200, 200),
    Colour.BLUE: (34, 78, 212),
    Colour.PURPLE: (128, 44, 170),
    Colour.PINK: (250, 130, 190),
    Colour.BROWN: (120, 72, 36),
    Colour.BLACK: (24, 24, 26),
}

DEFAULT_SIZE = 128
MIN_SIZE = 16

_SUPERSAMPLING = 3
_MAX_TURN = math.radians(12)
_BRIGHTNESS = (0.9, 1.08)


def render(scene: Scene, size: int = DEFAULT_SIZE) -> Image.Image:
    """The scene as an RGB image of `size` x `size` pixels, the same for the same scene.

    Raises:
        InputError: the image is too small to show anything.
    """
    if size < MIN_SIZE:
        raise InputError(f"a rendered scene is at least {MIN_SIZE} pixels wide, got {size}")
    rng = Random(f"pixels/{scene.seed}")
    side = size * _SUPERSAMPLING
    image = paint_background(scene.background, side, rng)
    _draw_clutter(image, scene.background, rng)
    for item in scene.objects:
        _draw_object(image, item, rng)
    return image.reduce(_SUPERSAMPLING)


def _draw_clutter(image: Image.Image, background: Background, rng: Random) -> None:
    """Specks and scratches in grey, under the objects so that none hides a colour."""
    draw = ImageDraw.Draw(image)
    greys = (80, 120) if background is Background.DARK else (120, 165)
    for _ in range(rng.randint(4, 14)):
        fill = (rng.randint(*greys),) * 3
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.width)
        if rng.random() < 0.5:
            draw.circle((x, y), image.width * rng.uniform(0.006, 0.012), fill=fill)
        else:
            angle, length = rng.uniform(0, math.tau), image.width * rng.uniform(0.03, 0.09)
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            draw.line((x, y, *end), fill=fill, width=max(1, round(image.width * 0.008)))


def _draw_object(image: Image.Image, item: SceneObject, rng: Random) -> None:
    colour = _shade(RGB[item.kind.colour], rng.uniform(*_BRIGHTNESS))
    mask = _mask(item, image.width, rng.uniform(-_MAX_TURN, _MAX_TURN))
    half = mask.width // 2
    corner = (round(item.x * image.width) - half, round(item.y * image.width) - half)
    image.paste(colour, corner, mask)


def _mask(item: SceneObject, side: int, turn: float) -> Image.Image:
    radius = item.diameter * side / 2
    half = math.ceil(radius) + 1
    mask = Image.new("L", (2 * half, 2 * half))
    draw = ImageDraw.Draw(mask)
    outline = OUTLINES[item.kind.shape]
    draw.polygon(_turned(outline.solid, turn, radius, half), fill=255)
    if outline.hole:
        draw.polygon(_turned(outline.hole, turn, radius, half), fill=0)
    return mask


def _turned(polygon: Polygon, turn: float, radius: float, centre: int) -> Polygon:
    """The polygon turned clockwise, scaled and moved, in pixels."""
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    return tuple((centre + x * cos - y * sin, centre + x * sin + y * cos) for x, y in polygon)


def _shade(colour: Rgb, brightness: float) -> Rgb:
    red, green, blue = (min(255, round(channel * brightness)) for channel in colour)
    return red, green, blue
