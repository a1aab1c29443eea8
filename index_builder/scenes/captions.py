"""Five ways to say what a scene shows; each names every coloured shape, and nothing untrue."""

import itertools
from collections.abc import Sequence
from random import Random

from index_builder.scenes.frames import LIST_FRAMES, RELATION_FRAMES
from index_builder.scenes.scene import Background, Kind, Scene, SceneObject, relations_between
from index_builder.scenes.words import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    COUNT_WORDS,
    GROUND_NOUNS,
    GROUND_PREPOSITIONS,
    RELATION_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    VERBS,
)

N_CAPTIONS = 5

_N_RELATION_CAPTIONS = 3
_SIZE_TOLD = 0.5
_BACKGROUND_TOLD = 0.5


def captions(scene: Scene) -> tuple[str, ...]:
    """Five different lower-case captions, always the same for a scene.

    Three tell relations, two only list. The objects must not touch, or a pair may have no
    relation to tell.
    """
    rng = Random(f"captions/{scene.seed}")
    frames = rng.sample(RELATION_FRAMES[len(scene.objects)], _N_RELATION_CAPTIONS)
    frames += rng.sample(LIST_FRAMES, N_CAPTIONS - _N_RELATION_CAPTIONS)
    rng.shuffle(frames)
    return tuple(frame.format_map(_slots(scene, rng)) for frame in frames)


def _slots(scene: Scene, rng: Random) -> dict[str, str]:
    """The words for every slot a frame may have, drawn afresh for each caption."""
    objects = rng.sample(scene.objects, len(scene.objects))
    named = dict(zip("abcd", objects, strict=False))
    verb, other_verb = rng.sample(VERBS, 2)
    kinds = {letter: _kind(item.kind, rng) for letter, item in named.items()}
    slots = {letter: _mention(item, kinds[letter], rng) for letter, item in named.items()}
    slots |= {"all": _listed(list(slots.values())), "verb": verb, "other_verb": other_verb}
    slots |= {f"the_{letter}": f"the {kind}" for letter, kind in kinds.items()}
    slots |= {
        a + b: _relation(named[a], named[b], rng) for a, b in itertools.permutations(named, 2)
    }
    ground = _ground(scene.background, rng)
    slots |= {"ground": ground, "on": f" {ground}" if rng.random() < _BACKGROUND_TOLD else ""}
    return slots | {"count": COUNT_WORDS[len(objects)]}


def _mention(item: SceneObject, kind: str, rng: Random) -> str:
    """The first mention of an object, such as `a tiny blue ring`."""
    told = rng.random() < _SIZE_TOLD
    words = f"{rng.choice(SIZE_WORDS[item.size])} {kind}" if told else kind
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _kind(kind: Kind, rng: Random) -> str:
    return f"{rng.choice(COLOUR_WORDS[kind.colour])} {rng.choice(SHAPE_WORDS[kind.shape])}"


def _relation(first: SceneObject, second: SceneObject, rng: Random) -> str:
    return rng.choice(RELATION_WORDS[rng.choice(relations_between(first, second))])


def _ground(background: Background, rng: Random) -> str:
    """The background as a phrase, such as `against a striped backdrop`."""
    look = rng.choice(BACKGROUND_WORDS[background])
    return f"{rng.choice(GROUND_PREPOSITIONS)} a {look} {rng.choice(GROUND_NOUNS)}"


def _listed(mentions: Sequence[str]) -> str:
    return f"{', '.join(mentions[:-1])} and {mentions[-1]}"
