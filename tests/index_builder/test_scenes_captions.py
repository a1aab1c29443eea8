"""Captions of scenes: read back word by word and compared with what is drawn."""

import itertools
import re
from typing import NamedTuple

import pytest

from index_builder.scenes import Scene, SceneObject, SceneSplit, captions, sample_scenes
from index_builder.scenes.frames import LIST_FRAMES, RELATION_FRAMES
from index_builder.scenes.scene import Background, Colour, Kind, Shape, Size

# What each word means, written down a second time: the captions' own tables are under test.
SHAPES = {
    "circle": "circle", "disc": "circle", "square": "square", "box": "square",
    "triangle": "triangle", "star": "star", "heart": "heart", "arrow": "arrow",
    "cross": "cross", "plus sign": "cross", "ring": "ring", "hoop": "ring",
    "crescent": "crescent", "moon": "crescent", "diamond": "diamond", "rhombus": "diamond",
}  # fmt: skip
COLOURS = {
    "red": "red", "orange": "orange", "yellow": "yellow", "green": "green",
    "turquoise": "turquoise", "teal": "turquoise", "blue": "blue", "purple": "purple",
    "violet": "purple", "pink": "pink", "brown": "brown", "black": "black",
}  # fmt: skip
SIZES = {
    "small": "small", "tiny": "small", "little": "small",
    "large": "large", "big": "large", "huge": "large",
}  # fmt: skip
LOOKS = {
    "white": "white", "plain white": "white", "grey": "grey", "plain grey": "grey",
    "dark": "dark", "plain dark": "dark", "gradient": "gradient", "fading": "gradient",
    "striped": "striped", "stripy": "striped", "checkered": "checkered", "checked": "checkered",
    "dotted": "dotted", "spotted": "dotted", "gridded": "gridded", "grid": "gridded",
}  # fmt: skip
SIDES = {
    "left of": "left", "right of": "right", "above": "above", "over": "above",
    "higher than": "above", "below": "below", "under": "below", "beneath": "below",
    "lower than": "below",
}  # fmt: skip

MENTION = re.compile(
    rf"\b(?P<article>an?|the) (?:(?P<size>{'|'.join(SIZES)}) )?"
    rf"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})\b"
)
GROUND = re.compile(r"\b(?:on|against) a (?P<look>[a-z ]+?) (?:background|backdrop)\b")
SIDE = rf"(?:(?:to|on) the )?({'|'.join(SIDES)})"


class Told(NamedTuple):
    """A relation as a caption tells it, by numbers of mentions in reading order."""

    first: int
    side: str
    second: int


def drawn_scenes(n_scenes: int = 400) -> list[Scene]:
    return list(itertools.islice(sample_scenes(SceneSplit.TEST, 11), n_scenes))


def named(match: re.Match[str]) -> tuple[str, str]:
    return COLOURS[match["colour"]], SHAPES[match["shape"]]


def told_relations(caption: str) -> list[Told]:
    """The relations of a caption; a fronted one (`above B there is A`) comes object first."""
    numbers = itertools.count()
    text = MENTION.sub(lambda _: f"<{next(numbers)}>", caption)
    fronted = re.compile(rf"{SIDE} <(\d)> there is <(\d)>")
    told = [Told(int(a), SIDES[side], int(b)) for side, b, a in fronted.findall(text)]
    plain = re.compile(rf"<(\d)>(?:[a-z ]*?) {SIDE} (?:<(\d)>|it\b)")
    rest = fronted.sub("", text)
    return told + [Told(int(a), SIDES[side], int(b or 0)) for a, side, b in plain.findall(rest)]


def is_true(side: str, first: SceneObject, second: SceneObject) -> bool:
    return {
        "left": first.x < second.x - 0.1,
        "right": first.x > second.x + 0.1,
        "above": first.y < second.y - 0.1,
        "below": first.y > second.y + 0.1,
    }[side]


def test_every_caption_names_exactly_the_coloured_shapes_drawn() -> None:
    for scene in drawn_scenes():
        drawn = {(str(item.kind.colour), str(item.kind.shape)) for item in scene.objects}
        for caption in captions(scene):
            assert {named(match) for match in MENTION.finditer(caption)} == drawn, caption


def test_every_object_is_introduced_once() -> None:
    for scene in drawn_scenes():
        for caption in captions(scene):
            firsts = [match for match in MENTION.finditer(caption) if match["article"] != "the"]
            assert len(firsts) == len(scene.objects), caption


def test_sizes_told_are_the_sizes_drawn() -> None:
    n_told = 0
    for scene in drawn_scenes():
        sizes = {(item.kind.colour, item.kind.shape): item.size for item in scene.objects}
        for match in itertools.chain(*map(MENTION.finditer, captions(scene))):
            if match["size"]:
                n_told += 1
                colour, shape = named(match)
                assert SIZES[match["size"]] == sizes[Colour(colour), Shape(shape)]
    assert n_told > 1000


def test_backgrounds_told_are_the_backgrounds_drawn() -> None:
    n_told = 0
    for scene in drawn_scenes():
        for match in itertools.chain(*map(GROUND.finditer, captions(scene))):
            n_told += 1
            assert LOOKS[match["look"]] == scene.background
    assert n_told > 800


def test_relations_told_are_true_of_the_places() -> None:
    for scene in drawn_scenes():
        items = {(str(i.kind.colour), str(i.kind.shape)): i for i in scene.objects}
        for caption in captions(scene):
            mentions = [items[named(match)] for match in MENTION.finditer(caption)]
            for told in told_relations(caption):
                assert is_true(told.side, mentions[told.first], mentions[told.second]), caption


def test_every_relation_word_is_read_back() -> None:
    """Three captions of a scene place objects; a relation the reader missed would go unchecked."""
    for scene in drawn_scenes():
        texts = captions(scene)
        for caption in texts:
            n_words = len(re.findall(rf"\b(?:{'|'.join(SIDES)})\b", caption))
            assert len(told_relations(caption)) == n_words, caption
        assert sum(bool(told_relations(caption)) for caption in texts) == 3


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red star with a blue ring to the left of it", [Told(1, "left", 0)]),
        ("above a red star there is a blue ring", [Told(1, "above", 0)]),
        ("a big red star sits under a blue ring on a dotted backdrop", [Told(0, "below", 1)]),
    ],
)
def test_the_reader_of_relations_reads_by_hand_examples(caption: str, expected: list[Told]) -> None:
    assert told_relations(caption) == expected


def test_the_check_of_relations_refuses_a_false_one() -> None:
    star, ring = Kind(Colour.RED, Shape.STAR), Kind(Colour.BLUE, Shape.RING)
    left = SceneObject(star, Size.SMALL, 0.2, 0.5, 0.24)
    right = SceneObject(ring, Size.SMALL, 0.8, 0.5, 0.24)
    scene = Scene((left, right), Background.WHITE, seed=4)
    told = [t for caption in captions(scene) for t in told_relations(caption)]
    assert told
    assert {t.side for t in told} <= {"left", "right"}
    assert not is_true("right", left, right)


def test_five_different_captions_and_none_shared_between_scenes() -> None:
    texts = [captions(scene) for scene in drawn_scenes(1000)]
    assert all(len(set(five)) == 5 for five in texts)
    assert len(set(itertools.chain(*texts))) == 5000


def test_captions_are_the_same_for_the_same_scene() -> None:
    (scene,) = drawn_scenes(1)
    assert captions(scene) == captions(scene)


def test_captions_are_plain_words_with_the_right_article() -> None:
    for caption in itertools.chain(*map(captions, drawn_scenes())):
        assert re.fullmatch(r"[a-z]+([,:]? [a-z]+)*", caption), caption
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption
        assert len(caption.split()) <= 45, caption


def test_counts_told_are_the_counts_drawn() -> None:
    numbers = {"two": 2, "three": 3, "four": 4}
    for scene in drawn_scenes():
        for word in re.findall(r"\b(two|three|four)\b", " ".join(captions(scene))):
            assert numbers[word] == len(scene.objects)


def test_there_are_many_frames_and_no_frame_twice() -> None:
    frames = [*LIST_FRAMES, *itertools.chain(*RELATION_FRAMES.values())]
    assert len(frames) == len(set(frames)) >= 30
