"""Both pages in a real browser, under the one policy: none of them breaks it, and it holds."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.page.conftest import NewPage

pytestmark = pytest.mark.browser
# What a page saw of its policy being broken, from before its first script on.
WATCH = """window.broken = [];
addEventListener("securitypolicyviolation", (event) => broken.push(event.violatedDirective));
"""
# The driver's own way to wait evaluates text in the page, which the policy forbids.
BOTH_BROKEN = """new Promise((done) => {
    const look = () => (broken.length < 2 ? setTimeout(look, 10) : done());
    look();
})"""


def violations(page: Page) -> list[str]:
    found: list[str] = page.evaluate("window.broken")
    return found


def watched(new_page: NewPage, site: str, path: str) -> Page:
    page = new_page("about:blank")
    page.add_init_script(WATCH)
    page.goto(f"{site}{path}")
    return page


def test_the_docs_page_works_under_the_policy(new_page: NewPage, site: str) -> None:
    page = watched(new_page, site, "/docs")
    route = page.locator("#operations-search-text_to_image_search_text_to_image_post")
    route.locator("button.opblock-summary-control").click()
    expect(route.get_by_text("Find images by a text, a caption's id or a vector")).to_be_visible()
    route.get_by_role("button", name="Try it out").click()
    route.locator("textarea").fill('{"query": "a red dog", "k": 2}')
    route.get_by_role("button", name="Execute").click()
    answer = route.locator(".live-responses-table")
    expect(answer).to_contain_text("index_version")
    assert violations(page) == []


def test_the_docs_page_takes_a_key(new_page: NewPage, site: str) -> None:
    page = watched(new_page, site, "/docs")
    page.get_by_role("button", name="Authorize").first.click()
    expect(page.get_by_text("X-API-Key")).to_be_visible()
    assert violations(page) == []


def test_the_search_page_works_under_the_policy(new_page: NewPage, site: str) -> None:
    page = watched(new_page, site, "/")
    page.locator("#text").fill("a red dog")
    page.locator("#go").click()
    expect(page.locator("#hits li").first).to_be_visible()
    assert violations(page) == []


def test_the_policy_holds_what_it_says(browser: Browser, site: str) -> None:
    """A script written into the page does not run, and nothing is fetched from elsewhere."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(site)
        page.evaluate(
            "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            "document.body.append(s); new Image().src = 'https://elsewhere.example/x.png'"
        )
        page.evaluate(BOTH_BROKEN)
        assert page.evaluate("window.ran") is None
        assert set(violations(page)) == {"script-src-elem", "img-src"}
