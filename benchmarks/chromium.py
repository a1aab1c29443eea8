"""A real headless Chromium for tests and screenshots: Debian's browser, Playwright's driver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

BINARY = "chromium"


def chromium_path() -> str | None:
    """Where the browser is, None where there is none."""
    return shutil.which(BINARY)


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A running browser.

    Raises:
        FileNotFoundError: there is no Chromium on the PATH.
    """
    path = chromium_path()
    if path is None:
        raise FileNotFoundError(f"no {BINARY} on the PATH")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()
