"""The words a BiGRU knows: saved as JSON with its weights."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import assert_never

from model.core.errors import CheckpointError
from model.encoders.treebank import treebank_words

PAD, UNKNOWN = 0, 1
START_WORD, END_WORD, UNKNOWN_WORD = "<start>", "<end>", "<unk>"
SPECIAL_WORDS = ("<pad>", START_WORD, END_WORD, UNKNOWN_WORD)
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[^\sa-z0-9]")


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation marks, in order."""
    return _WORD.findall(text.lower())


class WordRule(StrEnum):
    """How a text becomes words, and words become ids."""

    PLAIN = "plain"
    RELEASED = "released"


@dataclass(frozen=True)
class Vocabulary:
    """Word ids: 0 pads, 1 stands for every unknown word, the rest in order of `words`.

    Under the rule of the released vocabularies `words` are all ids from 0 on, special words
    included, and a text stands between `<start>` and `<end>`.
    """

    words: tuple[str, ...]
    rule: WordRule = WordRule.PLAIN

    def __post_init__(self) -> None:
        """Number the words.

        Raises:
            CheckpointError: a released vocabulary lacks a special word or does not pad with 0.
        """
        table = {word: i for i, word in enumerate(self.words, start=self._first)}
        object.__setattr__(self, "_ids", table)
        if self.rule is WordRule.RELEASED:
            for word in SPECIAL_WORDS:
                if word not in table:
                    raise CheckpointError(f"a released vocabulary needs the word {word}")
            if table["<pad>"] != PAD:
                raise CheckpointError(f"<pad> needs the id {PAD}, got {table['<pad>']}")

    @property
    def _first(self) -> int:
        return 2 if self.rule is WordRule.PLAIN else 0

    @classmethod
    def of(cls, texts: Iterable[str], min_count: int) -> "Vocabulary":
        """Words seen at least `min_count` times, the most frequent first, ties by spelling."""
        counts = Counter(word for text in texts for word in words_of(text))
        kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
        return cls(tuple(word for _, word in kept))

    def __len__(self) -> int:
        return len(self.words) + self._first

    def ids(self, text: str, max_words: int) -> list[int]:
        """Ids of the first words of a text; a text without words is one unknown word."""
        table: dict[str, int] = self.__dict__["_ids"]
        words = self._words(text, max_words)
        match self.rule:
            case WordRule.PLAIN:
                return [table.get(word, UNKNOWN) for word in words] or [UNKNOWN]
            case WordRule.RELEASED:
                framed = [START_WORD, *words, END_WORD]
                return [table.get(word, table[UNKNOWN_WORD]) for word in framed]
            case _:
                assert_never(self.rule)

    def _words(self, text: str, max_words: int) -> Iterator[str]:
        """The words of a text that are read; none is looked for before it is asked for."""
        match self.rule:
            case WordRule.PLAIN:
                found = (word.group() for word in _WORD.finditer(text.lower()))
                return islice(found, max_words)
            case WordRule.RELEASED:
                return islice(treebank_words(text), max(0, max_words - 2))
            case _:
                assert_never(self.rule)

    def knows(self, text: str, max_words: int) -> bool:
        """Whether one of the first words of a text is known; punctuation says nothing."""
        table: dict[str, int] = self.__dict__["_ids"]
        spoken = self._words(text, max_words)
        return any(word in table and any(map(str.isalnum, word)) for word in spoken)

    def save(self, path: Path) -> None:
        """Write the words as JSON."""
        content: dict[str, object] = {"words": self.words}
        if self.rule is not WordRule.PLAIN:
            content["rule"] = self.rule.value
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or holds no list of words.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            words: Sequence[str] = content["words"]
            rule = WordRule(content.get("rule", WordRule.PLAIN))
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"a BiGRU needs its vocabulary at {path}: {error}") from error
        return cls(tuple(words), rule)
