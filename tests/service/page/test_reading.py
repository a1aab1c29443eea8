"""The page for every eye and every screen: rules of accessibility, dark mode, phones."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize, expect

from tests.service.page.conftest import NewPage

pytestmark = pytest.mark.browser

QUERY = "?q=a+red+dog&k=10"
STATES = {
    "home": ("", "#text:enabled"),
    "pictures": (QUERY, ".hits img"),
    "captions": ("?id=photo-09&in=image-to-text&k=10", ".hits .words"),
    "similar": ("?id=photo-09%230&in=text-to-text&k=100", ".hits .mark-own"),
    "inspector": (f"{QUERY}&inspect=1&why=photo-09&why=nobody", ".fates li"),
    "options": (f"{QUERY}&exact=true&filter=%5B%5B%22row%22,%22gte%22,%225%22%5D%5D", ".filter"),
    "problem": ("?q=a+red+dog&k=5000", ".problem"),
}
PHONE = ViewportSize(width=360, height=740)


def open_state(new_page: NewPage, site: str, state: str, **profile: object) -> Page:
    address, sign = STATES[state]
    page = new_page(f"{site}/{address}", **profile)
    page.wait_for_selector(sign)
    return page


def violations(page: Page) -> list[str]:
    """Every broken rule in the light; in the dark those of colour, all that can differ there."""
    page.emulate_media(color_scheme="light")
    found = Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    found += Axe().run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


def test_axe_would_find_what_cannot_be_read(new_page: NewPage, site: str) -> None:
    page = open_state(new_page, site, "home")
    page.evaluate("document.querySelector('.promise').style.color = 'var(--line)'")
    assert len(violations(page)) == 2


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation_and_a_phone_never_scrolls_sideways(
    new_page: NewPage, site: str, state: str
) -> None:
    page = open_state(new_page, site, state)
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    # The chart is drawn anew a moment after its room has changed.
    for whole in ("html", "body"):
        expect(page.locator(whole)).to_have_js_property("scrollWidth", PHONE["width"])
    small = page.locator("main button:visible").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().height).filter((one) => one < 32)"
    )
    assert small == []


def test_axe_finds_no_violation_in_the_dialogs(new_page: NewPage, site: str) -> None:
    page = open_state(new_page, site, "inspector")
    page.locator(".hits .open").first.click()
    expect(page.get_by_role("dialog").locator(".captions")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="History").click()
    assert violations(page) == []


def test_a_finger_opens_a_picture_that_fits_the_phone(new_page: NewPage, site: str) -> None:
    page = open_state(new_page, site, "inspector", viewport=PHONE, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator(".hits .open").first.tap()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def background(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return found


def test_dark_mode_follows_the_system_until_it_is_chosen(new_page: NewPage, site: str) -> None:
    page = new_page(site, color_scheme="dark")
    dark = background(page)
    page.emulate_media(color_scheme="light")
    light = background(page)
    assert dark != light
    button = page.get_by_role("button", name="Dark")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    assert background(page) == dark
    page.reload()
    assert background(page) == dark
    expect(button).to_have_attribute("aria-pressed", "true")
