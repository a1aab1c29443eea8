"""The words a BiGRU knows: saved as JSON with its weights."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.core.errors import CheckpointError

PAD, UNKNOWN = 0, 1
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[^\sa-z0-9]")


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation marks, in order."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Word ids: 0 pads, 1 stands for every unknown word, the rest in order of `words`."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {w: i for i, w in enumerate(self.words, start=2)})

    @classmethod
    def of(cls, texts: Iterable[str], min_count: int) -> "Vocabulary":
        """Words seen at least `min_count` times, the most frequent first, ties by spelling."""
        counts = Counter(word for text in texts for word in words_of(text))
        kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
        return cls(tuple(word for _, word in kept))

    def __len__(self) -> int:
        return len(self.words) + 2

    def ids(self, text: str, max_words: int) -> list[int]:
        """Ids of the first words of a text; a text without words is one unknown word."""
        table: dict[str, int] = self.__dict__["_ids"]
        found = [table.get(word, UNKNOWN) for word in words_of(text)[:max_words]]
        return found or [UNKNOWN]

    def save(self, path: Path) -> None:
        """Write the words as JSON."""
        path.write_text(json.dumps({"words": self.words}, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or holds no list of words.
        """
        try:
            words: Sequence[str] = json.loads(path.read_text(encoding="utf-8"))["words"]
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"a BiGRU needs its vocabulary at {path}: {error}") from error
        return cls(tuple(words))
