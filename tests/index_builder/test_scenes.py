"""Scenes: what is drawn, where, and on which side of the splits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.scenes import Scene, SceneObject, SceneSplit, render, sample_scenes, split_of
from index_builder.scenes.outline import OUTLINES
from index_builder.scenes.render import RGB
from index_builder.scenes.sample import colours_on
from index_builder.scenes.scene import (
    Background,
    Colour,
    Kind,
    Relation,
    Shape,
    Size,
    relation_holds,
    relations_between,
)
from model.core.errors import InputError

RED_STAR = Kind(Colour.RED, Shape.STAR)
BLUE_RING = Kind(Colour.BLUE, Shape.RING)


def scenes(split: SceneSplit, n_scenes: int, seed: int = 3) -> list[Scene]:
    return list(itertools.islice(sample_scenes(split, seed), n_scenes))


def object_at(x: float, y: float, kind: Kind = RED_STAR) -> SceneObject:
    return SceneObject(kind, Size.LARGE, x, y, 0.38)


def colour_under(image: np.ndarray, x: float, y: float) -> Colour:
    """The palette colour nearest to the pixel at a share of the width and the height."""
    pixel = image[round(y * len(image)), round(x * len(image))]
    return min(RGB, key=lambda colour: float(np.square(np.subtract(RGB[colour], pixel)).sum()))


def test_scenes_of_one_seed_are_the_same_and_of_two_seeds_differ() -> None:
    assert scenes(SceneSplit.DEV, 20, seed=1) == scenes(SceneSplit.DEV, 20, seed=1)
    assert scenes(SceneSplit.DEV, 20, seed=1) != scenes(SceneSplit.DEV, 20, seed=2)


def test_no_description_appears_twice_within_or_across_splits() -> None:
    drawn = [scene for split in SceneSplit for scene in scenes(split, 1000)]
    told = {
        frozenset((item.kind.colour, item.kind.shape) for item in scene.objects) for scene in drawn
    }
    assert len(told) == len(drawn) == 4000


def test_splits_of_different_seeds_still_share_no_description() -> None:
    train = {
        scene.description for seed in range(4) for scene in scenes(SceneSplit.TRAIN, 400, seed)
    }
    held_out = {scene.description for scene in scenes(SceneSplit.TEST, 400, seed=9)}
    assert train.isdisjoint(held_out)


def test_the_split_of_a_description_never_moves() -> None:
    """Pinned: a new hash would send scenes that models were trained on into the test split."""
    pinned = {
        "green diamond, turquoise circle": SceneSplit.TRAIN,
        "orange star, red arrow": SceneSplit.DEV,
        "brown crescent, pink arrow": SceneSplit.TEST,
        "green diamond, yellow crescent": SceneSplit.DEMO,
    }
    assert {text: split_of(text) for text in pinned} == pinned


def test_description_ignores_order_place_and_background() -> None:
    first, second = object_at(0.2, 0.2), object_at(0.7, 0.7, BLUE_RING)
    moved = object_at(0.3, 0.6)
    one = Scene((first, second), Background.WHITE, seed=1)
    other = Scene((second, moved), Background.DARK, seed=2)
    assert one.description == other.description == "blue ring, red star"


@pytest.mark.parametrize("n_objects", [0, 1, 5])
def test_scene_refuses_a_count_of_objects_outside_two_to_four(n_objects: int) -> None:
    kinds = [Kind(colour, Shape.STAR) for colour in Colour][:n_objects]
    objects = tuple(object_at(0.5, 0.5, kind) for kind in kinds)
    with pytest.raises(InputError, match=f"2 to 4 objects, got {n_objects}"):
        Scene(objects, Background.WHITE, seed=0)


def test_scene_refuses_two_objects_of_one_colour_and_shape() -> None:
    with pytest.raises(InputError, match="red star, red star"):
        Scene((object_at(0.2, 0.2), object_at(0.7, 0.7)), Background.WHITE, seed=0)


def test_relations_follow_the_axes_with_y_downwards() -> None:
    high_left, low_right = object_at(0.2, 0.3), object_at(0.6, 0.7)
    assert relations_between(high_left, low_right) == (Relation.LEFT_OF, Relation.ABOVE)
    assert relations_between(low_right, high_left) == (Relation.RIGHT_OF, Relation.BELOW)


def test_a_hair_apart_along_an_axis_is_no_relation() -> None:
    assert not relation_holds(Relation.LEFT_OF, object_at(0.50, 0.2), object_at(0.55, 0.8))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_objects_lie_inside_the_image_clear_of_each_other_and_big_enough(seed: int) -> None:
    for scene in scenes(SceneSplit.TRAIN, 8, seed):
        for item in scene.objects:
            xs = [x for x, _ in OUTLINES[item.kind.shape].solid]
            ys = [y for _, y in OUTLINES[item.kind.shape].solid]
            extent = max(max(xs) - min(xs), max(ys) - min(ys)) / 2
            assert item.diameter * extent >= 0.18
            for centre in (item.x, item.y):
                assert item.diameter / 2 < centre < 1 - item.diameter / 2
        for one, other in itertools.combinations(scene.objects, 2):
            apart = np.hypot(one.x - other.x, one.y - other.y)
            assert apart > (one.diameter + other.diameter) / 2
            assert relations_between(one, other)


def test_every_large_object_is_larger_than_every_small_one() -> None:
    items = [item for scene in scenes(SceneSplit.TRAIN, 300) for item in scene.objects]
    small = max(item.diameter for item in items if item.size is Size.SMALL)
    large = min(item.diameter for item in items if item.size is Size.LARGE)
    assert large > 1.25 * small


def test_a_few_hundred_scenes_show_everything_there_is() -> None:
    drawn = scenes(SceneSplit.DEMO, 300)
    items = [item for scene in drawn for item in scene.objects]
    assert {item.kind.colour for item in items} == set(Colour)
    assert {item.kind.shape for item in items} == set(Shape)
    assert {scene.background for scene in drawn} == set(Background)
    assert {len(scene.objects) for scene in drawn} == {2, 3, 4}


def test_every_colour_stands_out_against_every_background_it_is_drawn_on() -> None:
    levels = {Background.DARK: 50, Background.WHITE: 246, Background.GREY: 186}
    for background, level in levels.items():
        for colour in colours_on(background):
            assert max(abs(channel - level) for channel in RGB[colour]) > 60


@pytest.mark.parametrize("size", [64, 96, 128])
def test_each_object_is_filled_with_its_colour(size: int) -> None:
    """The probe sits at the middle; left of it where a ring or a crescent is hollow."""
    for scene in scenes(SceneSplit.DEMO, 150):
        image = np.asarray(render(scene, size))
        for item in scene.objects:
            shift = {Shape.RING: 0.72, Shape.CRESCENT: 0.62}.get(item.kind.shape, 0.0)
            x = item.x - shift * item.diameter / 2
            assert colour_under(image, x, item.y) is item.kind.colour


def test_ring_and_crescent_are_hollow_where_a_circle_is_not() -> None:
    def lit(shape: Shape) -> bool:
        kind = Kind(Colour.RED, shape)
        pair = (object_at(0.3, 0.3, kind), object_at(0.75, 0.75, BLUE_RING))
        image = np.asarray(render(Scene(pair, Background.WHITE, seed=0), 100)).astype(int)
        return bool(image[30, 34, 0] - image[30, 34, 1] > 100)

    assert [lit(s) for s in (Shape.CIRCLE, Shape.RING, Shape.CRESCENT)] == [True, False, False]


def test_outlines_stay_inside_the_unit_circle() -> None:
    """Else objects whose circles are clear of each other could still touch."""
    assert set(OUTLINES) == set(Shape)
    for shape, outline in OUTLINES.items():
        assert max(np.hypot(x, y) for x, y in outline.solid) <= 1, shape


def test_no_two_shapes_share_a_silhouette() -> None:
    """Drawn alike in black on white, any two shapes differ in a fifth of the pixels of one."""
    silhouettes = {}
    for shape in Shape:
        pair = (object_at(0.3, 0.3, Kind(Colour.BLACK, shape)), object_at(0.8, 0.8, BLUE_RING))
        image = np.asarray(render(Scene(pair, Background.WHITE, seed=5)).convert("L"))
        silhouettes[shape] = image[10:68, 10:68] < 90
    for one, other in itertools.combinations(Shape, 2):
        differing = (silhouettes[one] ^ silhouettes[other]).sum()
        assert differing > 0.2 * silhouettes[one].sum(), (one, other)


def test_render_gives_the_same_pixels_for_the_same_scene() -> None:
    (scene,) = scenes(SceneSplit.DEV, 1)
    assert render(scene).tobytes() == render(scene).tobytes()
    reseeded = Scene(scene.objects, scene.background, scene.seed + 1)
    assert render(scene).tobytes() != render(reseeded).tobytes()


def test_render_refuses_a_size_that_shows_nothing() -> None:
    (scene,) = scenes(SceneSplit.DEV, 1)
    with pytest.raises(InputError, match="at least 16 pixels wide, got 15"):
        render(scene, 15)
