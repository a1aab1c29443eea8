"""What the page says of a search beside its hits, and of all the hits that it shows."""

import json
import re
from base64 import b64encode

import pytest
from playwright.sync_api import Page, expect

from tests.service.page.conftest import NewPage
from tests.service.page.test_reading import PHONE, violations
from tests.service.page.test_searching import DROP, search, shown_ids

pytestmark = pytest.mark.browser
# The pages of a ranking of `count` hits, of which the server gives three at once.
PAGES = """async ([count, depth, k]) => {
    const { covering } = await import("/page/pages.js");
    const asked = [];
    const ask = async (body) => {
        asked.push([body.offset ?? 0, body.k]);
        const ranks = Array.from({ length: count }, (_, rank) => ({ rank }));
        const from = body.offset ?? 0;
        const fate = from > 1 ? "earlier" : from + body.k > 1 ? "found" : "rerank";
        const hits = ranks.slice(from, from + body.k);
        return { hits, why_not: [{ id: "second", fate }], rerank: "none" };
    };
    const { hits, why_not: [{ fate }] } = await covering(ask, { k }, depth, 3);
    return [hits.map(({ rank }) => rank), asked, fate];
}"""


def dropped(page: Page, name: str, kind: str, data: bytes) -> None:
    """Drop a file of a name and a kind."""
    script = DROP.replace('"holiday.png"', json.dumps(name)).replace(
        '"image/png"', json.dumps(kind)
    )
    page.evaluate(script, ["drop", b64encode(data).decode()])


def test_what_meant_nothing_to_the_server_is_said(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    search(page, "zxcv qwerty")
    notices = page.locator("#notices p")
    expect(notices).to_have_text(["The encoder knows none of the words in “zxcv qwerty”."])
    expect(page.get_by_role("status")).to_contain_text("20 pictures")
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    search(page, "a red dog")
    expect(notices).to_have_count(0)


def test_a_field_that_no_item_has_is_said(new_page: NewPage, site: str) -> None:
    page = new_page("about:blank")
    page.route(
        "**/search/text-to-image",
        lambda route: route.continue_(
            post_data=json.dumps({"query": "a dog", "k": 20, "filter": {"rwo": 3}})
        ),
    )
    page.goto(f"{site}/?q=a+dog")
    expect(page.get_by_role("status")).to_contain_text("No pictures")
    expect(page.locator("#notices p")).to_have_text(
        ["No item has a value in the metadata field `rwo`, did you mean `row`?"]
    )


def test_the_best_hit_has_rank_one(new_page: NewPage, site: str) -> None:
    page = new_page(f"{site}/?q=a+red+dog&k=10")
    ranks = page.locator(".hits .rank")
    expect(ranks).to_have_text([f"#{place}" for place in range(1, 11)])
    expect(ranks.first).to_have_attribute("title", "Rank 1, the best")
    expect(page.get_by_role("button", name=re.compile(r"^Picture, rank 1: "))).to_be_visible()
    page.locator(".hits .open").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("rank 1")


def test_a_file_that_is_no_picture_is_refused_before_it_is_sent(
    new_page: NewPage, site: str
) -> None:
    page = new_page(site)
    expect(page.locator("#choose")).to_be_enabled()
    page.route("**/search/**", lambda _: pytest.fail("the file was sent"))
    dropped(page, "notes.txt", "text/plain", b"no picture")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("That was no picture file")
    expect(alert).to_contain_text("notes.txt is text/plain")
    expect(page.locator("#picked")).to_be_hidden()
    expect(page.locator("main img")).to_have_count(0)


def test_a_file_of_no_known_kind_is_looked_into(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    expect(page.locator("#choose")).to_be_enabled()
    dropped(page, "notes", "", b"no picture")
    expect(page.get_by_role("alert")).to_contain_text("422 image_rejected")
    expect(page.locator("#picked img")).to_have_count(0)


def test_the_inspector_covers_every_hit_that_is_shown(new_page: NewPage, site: str) -> None:
    page = new_page(f"{site}/?q=a+red+dog&k=10")
    for count in (20, 30):
        page.get_by_role("button", name="Show more").click()
        expect(page.get_by_role("status")).to_contain_text(f"{count} pictures")
    before = shown_ids(page)
    inspect = page.get_by_role("button", name="Inspect stages")
    inspect.click()
    rows = page.locator("#inspector tbody tr")
    expect(rows).to_have_count(30)
    assert page.locator("#inspector tbody th").all_text_contents() == before
    page.get_by_label("Where is").fill(before[25])
    page.keyboard.press("Enter")
    expect(page.locator(".fates li")).to_contain_text(f"{before[25]} is among the results")
    expect(rows).to_have_count(30)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(40)
    inspect.click()
    expect(page.locator("#inspector")).to_be_hidden()
    expect(page.locator(".hits .open")).to_have_count(40)
    assert shown_ids(page)[:30] == before


@pytest.mark.parametrize(
    ("count", "depth", "k", "ranks", "asked"),
    [
        (9, 0, 2, [0, 1], [[0, 2]]),
        (9, 3, 2, [0, 1, 2], [[0, 3]]),
        (9, 7, 1, [0, 1, 2, 3, 4, 5, 6], [[0, 3], [3, 3], [6, 1]]),
        (4, 6, 2, [0, 1, 2, 3], [[0, 3], [3, 3], [4, 2]]),
        (0, 6, 2, [], [[0, 3]]),
    ],
)
def test_pages_are_asked_for_until_as_many_hits_are_there(
    new_page: NewPage, site: str, count: int, depth: int, k: int, ranks: list[int], asked: object
) -> None:
    page = new_page(f"{site}/page/icon.svg")
    page.goto(site)
    assert page.evaluate(PAGES, [count, depth, k]) == [ranks, asked, "found"]
