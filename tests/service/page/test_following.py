"""What a person asks next: more like a hit, further hits, and where an expected one went."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, ViewportSize, expect

from tests.service.page.conftest import NewPage
from tests.service.page.test_searching import search, shown_captions, shown_ids, with_index
from tests.service.world import World

pytestmark = pytest.mark.browser
OPTIONS = ["k", "explain", "rerank", "offset", "exact", "collapse", "min_score", "why_not"]
FIRST_OF = "(all) => all.map((one) => one.getBoundingClientRect())"


def similar_ids(api: httpx.Client, **body: object) -> list[str]:
    answer = api.post("/search/similar", json={"k": 20, **body}).json()
    return [hit["id"] for hit in answer["hits"]]


def test_more_like_a_picture_are_pictures_and_a_click_gives_its_captions(
    new_page: NewPage, site: str, api: httpx.Client, world: World
) -> None:
    page = new_page(f"{site}/?q=a+red+dog&k=120")
    page.get_by_role("button", name="Similar pictures: a/image").click()
    expect(page.get_by_role("status")).to_contain_text("59 pictures for a/image")
    assert "id=a%2Fimage&in=image-to-image" in page.url
    assert shown_ids(page) == similar_ids(api, id="a/image", k=120)
    page.locator("#ways").get_by_role("button", name="Captions for this picture").click()
    expect(page.get_by_role("status")).to_contain_text("120 captions for a/image")
    assert "id=a%2Fimage&in=image-to-text" in page.url
    own = page.locator(".hits .open", has_text=world.captions[2]).first
    expect(own.locator(".mark-own")).to_have_text("same picture")


def test_more_like_a_caption_are_captions_and_its_dialog_gives_pictures(
    new_page: NewPage, site: str, api: httpx.Client
) -> None:
    page = new_page(f"{site}/?id=photo-07&in=image-to-text&k=10")
    page.locator(".hits .more").first.click()
    expect(page).to_have_url(re.compile("in=text-to-text"))
    item_id = httpx.URL(page.url).params["id"]
    expect(page.get_by_role("status")).to_contain_text(f"10 captions for {item_id}")
    captions = api.post("/search/similar", json={"id": item_id, "k": 10}).json()["hits"]
    assert shown_captions(page) == [hit["caption"] for hit in captions]
    page.locator(".hits .open").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Pictures for this caption").click()
    expect(page.get_by_role("status")).to_contain_text(f"10 pictures for {captions[0]['id']}")
    assert shown_ids(page) == similar_ids(api, id=captions[0]["id"], to="image", k=10)


def test_a_chosen_ranking_is_not_asked_for_among_items_of_one_kind(
    new_page: NewPage, site: str
) -> None:
    page = new_page(f"{site}/?q=a+red+dog&rerank=reference")
    expect(page.get_by_role("status")).to_contain_text("20 pictures")
    first = shown_ids(page)[0]
    with page.expect_request("**/search/similar") as asked:
        page.locator(".hits .more").first.click()
    assert asked.value.post_data_json == {"id": first, "k": 20}
    expect(page.get_by_role("status")).to_contain_text("20 pictures for")
    page.locator("#ways button").click()
    expect(page).to_have_url(re.compile("in=image-to-text&k=20&rerank=reference"))


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("a red dog -bus", {"query": "a red dog", "minus": ["bus"]}),
        (
            '-"white cat"  a red dog -bus',
            {"query": "a red dog", "minus": ["white cat", "bus"]},
        ),
        ("a sky-blue door - open", {"query": "a sky-blue door - open"}),
        ("-bus", {"query": "-bus"}),
    ],
)
def test_a_word_behind_a_minus_is_what_the_query_moves_away_from(
    new_page: NewPage, site: str, words: str, body: dict[str, object]
) -> None:
    page = new_page(site)
    with page.expect_request("**/search/text-to-image") as asked:
        search(page, words)
    assert asked.value.post_data_json == {**body, "k": 20}
    expect(page.get_by_role("status")).to_contain_text(f"20 pictures for “{words}”")
    expect(page.get_by_role("searchbox")).to_have_value(words)


def paged(page: Page, site: str, count: int) -> list[dict[str, object]]:
    """Let the server's searches have pages, of a ranking with so many hits; gives what is asked."""
    ranking = httpx.post(f"{site}/search/text-to-image", json={"query": "a dog", "k": count}).json()
    asked: list[dict[str, object]] = []

    def page_of(route: Route) -> None:
        body: dict[str, Any] = route.request.post_data_json or {}
        asked.append(body)
        start = body.get("offset", 0)
        if start >= 30:
            told = {"title": "A field breaks a rule", "status": 422, "code": "invalid_request"}
            broken = {"field": "offset", "rule": "Input should be at most 29", "value": "30"}
            route.fulfill(status=422, json={**told, "errors": [broken]})
        else:
            route.fulfill(json={**ranking, "hits": ranking["hits"][start : start + body["k"]]})

    page.route("**/search/text-to-image", page_of)
    return asked


def test_further_hits_come_below_those_that_are_there(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    with_index(page, options=OPTIONS)
    asked = paged(page, site, 15)
    page.goto(f"{site}/?q=a+dog&k=10")
    expect(page.get_by_role("status")).to_contain_text("10 pictures")
    before = shown_ids(page)
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("status")).to_contain_text("15 pictures")
    assert asked == [{"query": "a dog", "k": 10}, {"query": "a dog", "k": 10, "offset": 10}]
    assert shown_ids(page)[:10] == before
    assert len(set(shown_ids(page))) == 15
    expect(page.locator(".hits .open").nth(10)).to_be_focused()
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator("h2")).to_have_text(shown_ids(page)[-1])


def test_the_end_of_the_ranking_is_said_and_the_hits_stay(new_page: NewPage, site: str) -> None:
    page = new_page(site)
    with_index(page, options=OPTIONS)
    paged(page, site, 60)
    page.goto(f"{site}/?q=a+dog&k=10")
    for count in (20, 30):
        page.get_by_role("button", name="Show more").click()
        expect(page.get_by_role("status")).to_contain_text(f"{count} pictures")
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("status")).to_have_text("offset: Input should be at most 29")
    expect(page.locator(".hits .open")).to_have_count(30)


def test_exact_search_and_merged_duplicates_are_switches_of_an_index_that_has_them(
    new_page: NewPage, site: str
) -> None:
    page = new_page(f"{site}/?q=a+dog&k=10")
    with_index(page, options=OPTIONS)
    answer = httpx.post(f"{site}/search/text-to-image", json={"query": "a dog", "k": 10}).json()
    answer["hits"][0]["duplicates"] = ["photo-07", "a/image"]
    page.route("**/search/text-to-image", lambda route: route.fulfill(json=answer))
    page.get_by_text("Options").click()
    page.get_by_label("Exact search").check()
    expect(page).to_have_url(re.compile("exact=true"))
    with page.expect_request("**/search/text-to-image") as asked:
        page.get_by_label("Merge near-duplicates").check()
    body = asked.value.post_data_json
    assert body == {"query": "a dog", "k": 10, "exact": True, "collapse": 2}
    expect(page.locator(".hits .mark-near")).to_have_text(["+2"])
    page.locator(".hits .open").first.click()
    expect(page.get_by_role("dialog").locator(".near img")).to_have_count(2)


def test_the_inspector_says_where_an_item_went(
    new_page: NewPage, site: str, api: httpx.Client, world: World
) -> None:
    body = {"query": "a red dog", "k": 10, "why_not": list(world.ids[-15:])}
    told = api.post("/search/text-to-image", json=body).json()["why_not"]
    lost = next(one for one in told if one["fate"] == "hash")
    page = new_page(f"{site}/?q=a+red+dog&k=10&inspect=1")
    page.get_by_label("Where is").fill(lost["id"])
    page.keyboard.press("Enter")
    line = page.locator(".fates li")
    expect(line).to_have_text(
        f"{lost['id']} was dropped by the hash stage, which keeps {lost['kept_by_hash']} · "
        f"hash #{lost['rank_after_hash'] + 1} (distance {lost['hamming_distance']})"
    )
    page.get_by_label("Where is").fill("nobody")
    page.get_by_role("button", name="Tell me").click()
    expect(line.nth(1)).to_have_text("nobody is not in this gallery")
    expect(page).to_have_url(re.compile(f"inspect=1&why={lost['id']}&why=nobody"))
    page.get_by_role("button", name="Forget nobody").click()
    expect(line).to_have_count(1)
    search(page, "one blue boat")
    expect(page.get_by_role("status")).to_contain_text("one blue boat")
    expect(line).to_have_count(0)
    page.get_by_role("combobox", name="Results").select_option("20")
    expect(page.get_by_role("status")).to_contain_text("20 pictures")
    all_shown = shown_ids(page)
    page.get_by_role("combobox", name="Results").select_option("10")
    expect(page.get_by_role("status")).to_contain_text("10 pictures")
    seen = page.locator("#why-not-seen option").evaluate_all("(all) => all.map((o) => o.value)")
    assert set(all_shown[10:]) <= set(seen) <= set(world.ids) - set(shown_ids(page))


def test_on_a_phone_no_button_covers_a_picture(new_page: NewPage, site: str) -> None:
    phone = ViewportSize(width=360, height=740)
    page = new_page(f"{site}/?q=a+red+dog", viewport=phone, is_mobile=True, has_touch=True)
    buttons = page.locator("[data-kind=image] .more")
    expect(buttons).to_have_count(20)
    frames = page.locator(".hits .frame").evaluate_all(FIRST_OF)
    for box, frame in zip(buttons.evaluate_all(FIRST_OF), frames, strict=True):
        assert min(box["width"], box["height"]) >= 44
        assert box["top"] >= frame["bottom"]
    buttons.first.tap()
    expect(page.get_by_role("status")).to_contain_text("20 pictures for")
