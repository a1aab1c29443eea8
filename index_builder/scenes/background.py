"""The grounds behind the objects: nearly grey, so that every object colour stands out."""

from random import Random
from typing import NamedTuple, TypeAlias, assert_never

from PIL import Image, ImageDraw, ImageOps

from index_builder.scenes.scene import Background

Rgb: TypeAlias = tuple[int, int, int]

_TINT = 7


class _Tones(NamedTuple):
    base: Rgb
    accent: Rgb


def paint_background(background: Background, side: int, rng: Random) -> Image.Image:
    """A square RGB image of the background; tones, pitch and direction vary with `rng`."""
    tones = _tones(background, rng)
    if background is Background.GRADIENT:
        return _gradient(tones, side, rng)
    image = Image.new("RGB", (side, side), tones.base)
    draw = ImageDraw.Draw(image)
    match background:
        case Background.WHITE | Background.GREY | Background.DARK:
            pass
        case Background.STRIPED:
            _draw_stripes(draw, tones.accent, side, rng)
        case Background.CHECKERED:
            _draw_checks(draw, tones.accent, side, rng)
        case Background.DOTTED:
            _draw_dots(draw, tones.accent, side, rng)
        case Background.GRIDDED:
            _draw_grid(draw, tones.accent, side, rng)
        case _:
            assert_never(background)
    return image


def _tones(background: Background, rng: Random) -> _Tones:
    match background:
        case Background.WHITE:
            levels = (246, 246)
        case Background.GREY:
            levels = (186, 186)
        case Background.DARK:
            levels = (50, 50)
        case Background.GRADIENT:
            levels = (248, 150)
        case Background.STRIPED | Background.CHECKERED:
            levels = (238, 200)
        case Background.DOTTED | Background.GRIDDED:
            levels = (240, 178)
        case _:
            assert_never(background)
    tint = [rng.randint(-_TINT, _TINT) for _ in range(3)]
    return _Tones(_tinted(levels[0], tint), _tinted(levels[1], tint))


def _tinted(level: int, tint: list[int]) -> Rgb:
    red, green, blue = (min(255, level + shift) for shift in tint)
    return red, green, blue


def _gradient(tones: _Tones, side: int, rng: Random) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((side, side))
    turned = ramp.rotate(rng.choice((0, 90, 180, 270)))
    return ImageOps.colorize(turned, black=tones.accent, white=tones.base)


def _draw_stripes(draw: ImageDraw.ImageDraw, colour: Rgb, side: int, rng: Random) -> None:
    pitch = side * rng.uniform(0.1, 0.16)
    slant = side * rng.choice((-1, 0, 1))
    start = -side - rng.uniform(0, pitch)
    for i in range(int(3 * side / pitch) + 1):
        left = start + i * pitch
        right = left + pitch / 2
        draw.polygon(
            [(left, 0), (right, 0), (right + slant, side), (left + slant, side)], fill=colour
        )


def _draw_checks(draw: ImageDraw.ImageDraw, colour: Rgb, side: int, rng: Random) -> None:
    n_cells = rng.randint(6, 9)
    cell = side / n_cells
    for row in range(n_cells):
        for column in range(row % 2, n_cells, 2):
            corner = (column * cell, row * cell)
            draw.rectangle((*corner, corner[0] + cell, corner[1] + cell), fill=colour)


def _draw_dots(draw: ImageDraw.ImageDraw, colour: Rgb, side: int, rng: Random) -> None:
    n_cells = rng.randint(7, 10)
    cell = side / n_cells
    for row in range(n_cells):
        for column in range(n_cells):
            centre = ((column + 0.5) * cell, (row + 0.5) * cell)
            draw.circle(centre, cell * 0.22, fill=colour)


def _draw_grid(draw: ImageDraw.ImageDraw, colour: Rgb, side: int, rng: Random) -> None:
    n_cells = rng.randint(6, 9)
    width = max(1, round(side * 0.012))
    for i in range(1, n_cells):
        at = side * i / n_cells
        draw.line((at, 0, at, side), fill=colour, width=width)
        draw.line((0, at, side, at), fill=colour, width=width)
