import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.core.types import Direction
from service.client import Explanation, Hit, SearchAnswer
from service.table import columns, cut, plain, table


def answer(*hits: Hit) -> SearchAnswer:
    return SearchAnswer(
        index_version="v1",
        direction=Direction.IMAGE_TO_TEXT,
        rerank="none",
        degraded=[],
        hits=list(hits),
        milliseconds={},
    )


def hit(item_id: str, caption: str, rank: int = 0, explanation: Explanation | None = None) -> Hit:
    return Hit(
        id=item_id, rank=rank, score=0.5, caption=caption, metadata={}, explanation=explanation
    )


def test_wide_letters_take_two_columns_and_accents_none() -> None:
    assert columns("日本 e\N{COMBINING ACUTE ACCENT}") == 6
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"
    assert cut("日本語", 6) == "日本語"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\n\tdogs ", "two dogs"),
        ("\x1b[2Jdogs", "\N{REPLACEMENT CHARACTER}[2Jdogs"),
        ("dogs\N{RIGHT-TO-LEFT OVERRIDE}", "dogs\N{REPLACEMENT CHARACTER}"),
        ("\x9b5n", "\N{REPLACEMENT CHARACTER}5n"),
    ],
)
def test_nothing_in_a_caption_steers_a_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal(texts: list[tuple[str, str]], width: int) -> None:
    hits = [hit(item_id, caption, rank) for rank, (item_id, caption) in enumerate(texts)]
    lines = table(answer(*hits), lambda _: None, width).splitlines()
    assert len(lines) == 1 + len(hits)
    assert all(columns(line) <= width for line in lines)
    assert not any(unicodedata.category(letter) == "Cc" for line in lines for letter in line)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_without_a_terminal_every_id_and_caption_is_whole(texts: list[tuple[str, str]]) -> None:
    hits = [hit(item_id, caption, rank) for rank, (item_id, caption) in enumerate(texts)]
    lines = table(answer(*hits), lambda _: None, None).splitlines()
    for line, (item_id, caption) in zip(lines[1:], texts, strict=True):
        assert plain(item_id) in line
        assert line.endswith(plain(caption))


def test_a_picture_stands_where_no_caption_is() -> None:
    hits = [hit("a", "a dog"), Hit(id="b", rank=1, score=0.25, metadata={})]
    lines = table(answer(*hits), lambda one: f"/{one.id}.jpg", None).splitlines()
    assert lines == [
        "rank   score  id  found",
        "   0  0.5000  a   a dog",
        "   1  0.2500  b   /b.jpg",
    ]


def test_an_explanation_breaks_between_its_figures() -> None:
    shown = Explanation(
        hamming_distance=3, pq_score=0.25, consistency=0.125, reverse_rank=7,
        rank_after_hash=4, rank_after_pq=2, rank_after_rerank=0,
    )  # fmt: skip
    lines = table(answer(hit("a", "a dog", explanation=shown)), lambda _: None, 60).splitlines()
    assert lines[2:] == [
        "      hamming_distance 3, pq_score 0.2500,",
        "      consistency 0.1250, reverse_rank 7, rank_after_hash 4,",
        "      rank_after_pq 2, rank_after_rerank 0",
    ]


def test_notices_follow_the_hits() -> None:
    noticed = answer(hit("a", "two dogs")).model_copy(update={"notices": ["no\x1b word"]})
    assert table(noticed, lambda _: None, None).splitlines()[2:] == [
        "note: no\N{REPLACEMENT CHARACTER} word"
    ]
    empty = answer().model_copy(update={"notices": ["one", "two"]})
    assert table(empty, lambda _: None, 80) == "no hits\nnote: one\nnote: two\n"
