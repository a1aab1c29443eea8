"""Which split a scene belongs to: a matter of its description alone, so splits cannot overlap."""

import hashlib
from enum import StrEnum
from typing import assert_never


class SceneSplit(StrEnum):
    """What a gallery is for; demo is the one shown to visitors."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"
    DEMO = "demo"


N_BUCKETS = 20


def split_of(description: str) -> SceneSplit:
    """The only split in which a scene of this description may appear, whatever counts and seeds."""
    digest = hashlib.blake2b(description.encode(), digest_size=8).digest()
    bucket = int.from_bytes(digest, "big") % N_BUCKETS
    return next(split for split in SceneSplit if bucket in _buckets(split))


def _buckets(split: SceneSplit) -> range:
    match split:
        case SceneSplit.TRAIN:
            return range(10)
        case SceneSplit.DEV:
            return range(10, 13)
        case SceneSplit.TEST:
            return range(13, 16)
        case SceneSplit.DEMO:
            return range(16, N_BUCKETS)
        case _:
            assert_never(split)
