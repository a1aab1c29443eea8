"""Take the pictures of the search page that the README shows.

    python -m benchmarks.screenshots --index demo/index --out docs

Needs Chromium on the PATH, and an index of drawn scenes for its queries to make sense.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize

from benchmarks.chromium import open_chromium
from benchmarks.smoke import serving
from model.artifact.reader import open_artifact
from model.core.errors import MeetError
from model.core.types import Modality

COLOURS = 256
DESKTOP = ViewportSize(width=1200, height=780)
TALL = ViewportSize(width=1200, height=1010)
PHONE = ViewportSize(width=360, height=740)
TEXT = "?q=a+red+star+next+to+a+blue+circle&k=20"
INSPECTED = "?q=a+red+star+next+to+a+blue+circle&k=10&inspect=1"
ON_A_PHONE = "?q=two+green+hearts&k=20"
WAIT_MS, STEP_MS = 120_000, 100
PICTURES_SEEN = """[...document.querySelectorAll(".hits img")].every(
    (one) => one.naturalWidth > 0 || one.getBoundingClientRect().top > innerHeight)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every picture is written."""
    options = _parser().parse_args(arguments)
    try:
        asked = _first_picture(options.index)
        with serving(options.index) as url, open_chromium() as browser:
            _shoot_all(browser, url, asked, options.out)
    except (MeetError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _first_picture(root: Path) -> bytes:
    """The file of the index's first image."""
    image = open_artifact(root).side(Modality.IMAGE).items[0].image
    if image is None:
        raise OSError(f"the index at {root} has no source files to search with")
    return image.read_bytes()


def _shoot_all(browser: Browser, url: str, asked: bytes, out: Path) -> None:
    page = _opened(browser, f"{url}/{TEXT}", DESKTOP)
    _save(page, out / "text.png")
    page.locator("#file").set_input_files(
        {"name": "scene.jpg", "mimeType": "image/jpeg", "buffer": asked}
    )
    page.wait_for_selector(".hits .words")
    _save(page, out / "image.png")

    page = _opened(browser, f"{url}/{INSPECTED}", TALL)
    _most_moved(page)
    _save(page, out / "inspector.png")

    page = _opened(browser, f"{url}/{ON_A_PHONE}", PHONE, dark=True)
    _save(page, out / "phone.png")


def _opened(browser: Browser, address: str, size: ViewportSize, *, dark: bool = False) -> Page:
    """The page at an address once its hits are there, asked twice so that the server is warm."""
    context = browser.new_context(
        viewport=size,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        has_touch=dark,
        is_mobile=dark,
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    for _ in range(2):
        page.goto(address)
        page.wait_for_selector(".hits img")
    return page


def _most_moved(page: Page) -> None:
    """Point at the line with the longest way up."""
    changes = page.locator(".bump-change").all_text_contents()
    rises = [int(one[1:]) if one.startswith("▲") else 0 for one in changes]
    page.locator(".bump-change").nth(rises.index(max(rises))).hover()


def _wait_for_pictures(page: Page) -> None:
    """Ask again and again: the driver's own way of waiting needs what the page's policy forbids.

    Raises:
        TimeoutError: a picture in the window never came.
    """
    for _ in range(WAIT_MS // STEP_MS):
        if page.evaluate(PICTURES_SEEN):
            return
        page.wait_for_timeout(STEP_MS)
    raise TimeoutError(f"the pictures take at most {WAIT_MS // 1000} s, they took longer")


def _save(page: Page, path: Path) -> None:
    """Write what the window shows as a PNG of few colours: small, and sharp in its lines."""
    _wait_for_pictures(page)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    # This method keeps the colours of few pixels, such as those of the stages.
    few = shot.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Take the README's pictures of the search page.")
    parser.add_argument("--index", type=Path, required=True, help="what meet-build wrote")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the PNG files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
