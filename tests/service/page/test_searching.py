"""Searches as a person makes them, in a real browser."""

import json
import re
from base64 import b64encode
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from service.engine import SearchEngine
from tests.service.page.conftest import HOSTILE, NewPage, Serve
from tests.service.world import World

pytestmark = pytest.mark.browser

THUMBNAIL = 16  # pixels, as the small gallery has them
DROP = """([kind, data]) => {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], "holiday.png", { type: "image/png" }));
    const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true })
        : new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
}"""
# The signals that searches are asked with, so that a test sees which of them were aborted.
KEEP_SIGNALS = """() => {
    const [ask, kept] = [window.fetch, (window.signals = [])];
    window.fetch = (url, options) => {
        if (String(url).includes("/search/")) kept.push(options.signal);
        return ask(url, options);
    };
}"""


def search(page: Page, words: str) -> None:
    page.get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")


def shown_ids(page: Page) -> list[str]:
    return page.locator(".hits .name").all_text_contents()


def shown_captions(page: Page) -> list[str]:
    return page.locator(".hits .words").all_text_contents()


def ids_of(api: httpx.Client, query: str, **options: object) -> list[str]:
    answer = api.post("/search/text-to-image", json={"query": query, "k": 20, **options})
    return [hit["id"] for hit in answer.json()["hits"]]


def captions_of(api: httpx.Client, data: bytes) -> list[str]:
    answer = api.post("/search/image-to-text", files={"image": data}, data={"k": "20"})
    return [hit["caption"] for hit in answer.json()["hits"]]


def unanswered(_: Route) -> None:
    """Leave a request waiting."""


def with_index(page: Page, **changes: object) -> None:
    """Let the server's index say more than this one does."""

    def changed(route: Route) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, **changes})

    page.route("**/index", changed)
    page.reload()


def test_a_typed_query_shows_the_pictures_that_the_api_finds(
    new_page: NewPage, site: str, api: httpx.Client
) -> None:
    page = new_page(site)
    search(page, "a red dog")
    expect(page.get_by_role("status")).to_contain_text("20 pictures for “a red dog”")
    assert shown_ids(page) == ids_of(api, "a red dog")
    pictures = page.locator(".hits img")
    expect(pictures).to_have_count(20)
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", THUMBNAIL)
    names = page.locator(".times-list .times-name").all_text_contents()
    assert names == ["queue", "encode", "hash", "pq", "rerank"]


@pytest.mark.parametrize("kind", ["drop", "paste", "choose"])
def test_a_picture_of_ones_own_shows_the_captions_that_the_api_finds(
    new_page: NewPage, site: str, api: httpx.Client, world: World, kind: str
) -> None:
    page, data = new_page(site), world.image_path(7).read_bytes()
    expect(page.locator("#choose")).to_be_enabled()
    if kind == "choose":
        page.locator("#file").set_input_files(world.image_path(7))
    else:
        page.evaluate(DROP, [kind, b64encode(data).decode()])
    expect(page.get_by_role("status")).to_contain_text("20 captions for")
    assert shown_captions(page) == captions_of(api, data)
    assert page.locator("#picked img").evaluate("(one) => one.naturalWidth") == 40


def test_a_dragged_file_shows_where_it_may_be_dropped(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    expect(page.locator("#choose")).to_be_enabled()
    page.evaluate(DROP, ["dragenter", ""])
    expect(page.locator("#drop")).to_be_visible()
    page.evaluate(DROP, ["dragleave", ""])
    expect(page.locator("#drop")).to_be_hidden()


def test_a_picture_over_the_limit_is_refused_before_it_is_sent(
    new_page: NewPage, site: str
) -> None:
    page = new_page(site)
    expect(page.locator("#choose")).to_be_enabled()
    big = {"name": "big.png", "mimeType": "image/png", "buffer": bytes(200_001)}
    page.locator("#file").set_input_files(big)  # type: ignore[arg-type]
    expect(page.get_by_role("alert")).to_contain_text("A picture takes at most 0.2 MiB")


def test_a_problem_is_shown_with_its_rule_and_request_id(new_page: NewPage, site: str) -> None:
    page = new_page("about:blank")
    with page.expect_response("**/search/text-to-image") as answered:
        page.goto(f"{site}/?q=a+red+dog&k=5000")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("k: input should be at most 1000 (limits.max_k), got 5000")
    expect(alert).to_contain_text(answered.value.header_value("x-request-id") or "no id")
    page.get_by_role("combobox", name="Results").select_option("10")
    expect(page.get_by_role("status")).to_contain_text("10 pictures")
    expect(alert).to_have_count(0)


def test_a_refused_file_says_why(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    expect(page.locator("#choose")).to_be_enabled()
    text = {"name": "note.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#file").set_input_files(text)  # type: ignore[arg-type]
    expect(page.get_by_role("alert")).to_contain_text("The image cannot be used")
    expect(page.get_by_role("alert")).to_contain_text("422 image_rejected")
    # The box names the file, with a drawing in place of a picture that is none.
    expect(page.locator("#picked")).to_contain_text("note.png")
    expect(page.locator("#picked img")).to_have_count(0)
    expect(page.locator("#picked .tile svg")).to_be_visible()


def test_a_server_that_is_gone_is_said_and_asked_again(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    page.route("**/search/**", lambda route: route.abort())
    search(page, "a red dog")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    page.unroute("**/search/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("status")).to_contain_text("20 pictures")


def test_a_new_search_ends_the_one_before_it(
    new_page: NewPage, site: str, api: httpx.Client
) -> None:
    page = new_page(site)
    page.evaluate(KEEP_SIGNALS)

    def all_but_the_dog(route: Route) -> None:
        if "dog" not in (route.request.post_data or ""):
            route.continue_()

    page.route("**/search/**", all_but_the_dog)
    search(page, "a red dog")
    expect(page.get_by_role("status")).to_have_text("Searching…")
    search(page, "one blue boat")
    expect(page.get_by_role("status")).to_contain_text("one blue boat")
    assert shown_ids(page) == ids_of(api, "one blue boat")
    assert page.evaluate("signals.map((one) => one.aborted)") == [True, False]


def test_a_slow_search_can_be_cancelled(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    page.route("**/search/**", unanswered)
    search(page, "a red dog")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Cancelled.")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


def test_the_address_holds_the_search_and_back_and_forward_repeat_it(
    new_page: NewPage, site: str, api: httpx.Client, world: World
) -> None:
    page = new_page(f"{site}/?q=a+red+dog&k=10&rerank=none")
    status = page.get_by_role("status")
    expect(status).to_contain_text("10 pictures for “a red dog”")
    assert shown_ids(page) == ids_of(api, "a red dog", k=10, rerank="none")
    page.locator("#file").set_input_files(world.image_path(7))
    expect(status).to_contain_text("10 captions for 7.png")
    search(page, "one blue boat")
    expect(status).to_contain_text("one blue boat")
    assert "q=one+blue+boat&k=10&rerank=none" in page.url
    page.go_back()
    expect(status).to_contain_text("10 captions for 7.png")
    page.go_back()
    expect(status).to_contain_text("“a red dog”")
    expect(page.get_by_role("searchbox")).to_have_value("a red dog")
    page.go_forward()
    expect(status).to_contain_text("captions for 7.png")


def test_ranking_modes_are_those_of_the_index(new_page: NewPage, site: str) -> None:
    page = new_page(f"{site}/?q=a+red+dog")
    ranking = page.get_by_label("Ranking")
    labels = ["Relationship", "Reference rule", "Cosine only"]
    expect(ranking.locator("option")).to_have_text(labels)
    ranking.focus()
    with page.expect_request("**/search/text-to-image") as asked:
        ranking.select_option("none")
    assert asked.value.post_data_json == {"query": "a red dog", "k": 20, "rerank": "none"}
    expect(page).to_have_url(re.compile("rerank=none"))
    expect(ranking).to_be_focused()


def test_filters_ask_for_what_the_index_holds(
    new_page: NewPage, site: str, api: httpx.Client
) -> None:
    page = new_page(f"{site}/?q=a+red+dog")
    page.get_by_text("Options").click()
    page.get_by_role("button", name="Add filter").click()
    page.get_by_label("field of filter 1").select_option("row")
    page.get_by_label("comparison of filter 1").select_option("gte")
    with page.expect_request("**/search/text-to-image") as asked:
        page.get_by_label("value of filter 1").fill("50")
        page.keyboard.press("Enter")
    body = asked.value.post_data_json
    assert body == {"query": "a red dog", "k": 20, "filter": {"row": {"gte": 50}}}
    expect(page.get_by_role("status")).to_contain_text("10 pictures")
    assert shown_ids(page) == ids_of(api, "a red dog", filter={"row": {"gte": 50}})
    with page.expect_request("**/search/text-to-image") as asked:
        page.get_by_role("button", name="Remove filter 1").click()
    assert asked.value.post_data_json == {"query": "a red dog", "k": 20}


def test_filters_of_one_field_all_hold_and_quotes_make_a_text(new_page: NewPage, site: str) -> None:
    rows = [["row", "gte", "10"], ["row", "gte", "30"], ["row", "eq", "40"], ["foo", "eq", '"7"']]
    with (page := new_page(site)).expect_request("**/search/text-to-image") as asked:
        page.goto(f"{site}/?{urlencode({'q': 'a red dog', 'filter': json.dumps(rows)})}")
    body = asked.value.post_data_json or {}
    assert body["filter"] == {"row": {"gte": 30, "eq": 40}, "foo": "7"}
    page.get_by_text("Options").click()
    expect(page.get_by_label("field of filter 4")).to_have_value("foo")


def test_history_is_kept_found_and_cleared(new_page: NewPage, site: str) -> None:
    page = new_page(f"{site}/?q=a+red+dog")
    expect(page.get_by_role("status")).to_contain_text("20 pictures")
    search(page, "one blue boat")
    expect(page.get_by_role("status")).to_contain_text("one blue boat")
    page.goto(site)
    page.get_by_role("button", name="a red dog").click()
    expect(page.get_by_role("status")).to_contain_text("a red dog")
    page.get_by_role("button", name="History").click()
    entries = page.get_by_role("dialog").locator(".past span")
    expect(entries).to_have_text(["a red dog", "one blue boat"])
    page.get_by_role("button", name="Clear history").click()
    expect(page.get_by_role("dialog")).to_contain_text("No searches yet.")
    assert page.evaluate("localStorage.getItem('meet.history')") is None


def test_a_broken_history_is_an_empty_one(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    page.evaluate("localStorage.setItem('meet.history', '[{\"kind\": 3}, null')")
    page.reload()
    expect(page.get_by_role("searchbox")).to_be_enabled()
    expect(page.locator("#recent")).to_be_hidden()


def test_the_inspector_draws_and_lists_what_the_api_explains(
    new_page: NewPage, site: str, api: httpx.Client
) -> None:
    page = new_page(f"{site}/?q=a+red+dog")
    page.get_by_role("button", name="Inspect stages").click()
    lines = page.locator(".bump-line")
    expect(lines).to_have_count(20)
    body = {"query": "a red dog", "k": 20, "explain": True}
    hits = api.post("/search/text-to-image", json=body).json()["hits"]
    starts = [hit["explanation"]["rank_after_hash"] for hit in hits]
    heights = lines.locator("circle:first-of-type").evaluate_all(
        "(dots) => dots.map((dot) => Number(dot.getAttribute('cy')))"
    )
    by_height = sorted(range(20), key=lambda at: heights[at])
    assert by_height == sorted(range(20), key=lambda at: starts[at])
    page.get_by_text("Show as a table").click()
    ranks = page.locator(".alternative tbody tr td:nth-of-type(2)").all_text_contents()
    assert ranks == [str(rank + 1) for rank in starts]
    lines.nth(3).locator(".bump-change").hover()
    expect(page.locator(".readout")).to_contain_text(f"{hits[3]['id']}: hash #{starts[3] + 1} ")
    expect(page).to_have_url(re.compile("inspect=1"))


def test_the_keyboard_alone_is_enough(new_page: NewPage, site: str) -> None:
    page = new_page(f"{site}/?q=one+blue+boat")
    expect(page.get_by_role("status")).to_contain_text("20 pictures")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("a red dog")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("a red dog")
    page.keyboard.press("ArrowDown")
    hits = page.locator(".hits .open")
    expect(hits.nth(0)).to_be_focused()
    columns = page.evaluate(
        "getComputedStyle(document.getElementById('hits')).gridTemplateColumns.split(' ').length"
    )
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(hits.nth(1 + columns)).to_be_focused()
    assert hits.nth(1 + columns).evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    names = shown_ids(page)
    title = page.get_by_role("dialog").locator("h2")
    expect(title).to_have_text(names[1 + columns])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text(names[3 + columns])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(hits.nth(1 + columns)).to_be_focused()


def test_an_api_key_is_asked_for_only_when_it_is_missing(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    expect(page.get_by_role("searchbox")).to_be_enabled()
    expect(page.locator("#key")).to_be_hidden()

    def guarded(route: Route) -> None:
        if route.request.headers.get("x-api-key") == "open sesame":
            route.continue_()
        else:
            route.fulfill(status=401, json={"title": "A key is needed", "request_id": "r-1"})

    page.route(re.compile("/(index|search|items)"), guarded)
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("A key is needed")
    page.get_by_label("This server needs an API key:").fill("open sesame")
    page.keyboard.press("Enter")
    search(page, "a red dog")
    expect(page.get_by_role("status")).to_contain_text("20 pictures")
    expect(page.locator(".hits img").first).to_have_js_property("naturalWidth", THUMBNAIL)
    assert page.evaluate("sessionStorage.getItem('meet.key')") == "open sesame"
    assert "sesame" not in page.evaluate("JSON.stringify(localStorage) + location.href")


def test_a_gallery_without_captions_says_so(
    new_page: NewPage, serve: Serve, images_engine: SearchEngine
) -> None:
    page = new_page(serve(images_engine))
    expect(page.locator("#note")).to_contain_text("holds no captions")
    expect(page.locator("#choose")).to_be_hidden()
    search(page, "a red dog")
    expect(page.locator(".hits .open").first).to_be_visible()
    page.get_by_role("button", name="Similar pictures").first.click()
    expect(page.get_by_role("status")).to_contain_text("20 pictures for")
    expect(page.locator("#ways button")).to_have_count(0)


def test_an_index_of_vectors_alone_says_so(
    new_page: NewPage, serve: Serve, vectors_engine: SearchEngine
) -> None:
    page = new_page(serve(vectors_engine))
    expect(page.locator("#note")).to_contain_text("takes no words")
    expect(page.get_by_role("searchbox")).to_be_disabled()


def test_markup_in_ids_and_captions_stays_text(
    new_page: NewPage, serve: Serve, hostile_engine: SearchEngine
) -> None:
    page = new_page(f"{serve(hostile_engine)}/?q=a+red+dog&inspect=1")
    names = page.locator(".hits .name")
    expect(names.first).to_contain_text(HOSTILE)
    page.locator(".hits .open").first.click()
    expect(page.get_by_role("dialog").locator(".captions li").first).to_contain_text(HOSTILE)
    page.get_by_role("dialog").get_by_role("button", name="Captions for this picture").click()
    expect(page.locator(".hits .words").first).to_contain_text(HOSTILE)
    assert page.locator("[onerror]").count() == 0
    assert page.locator("body script").count() == 0
    assert page.title() != "owned"
