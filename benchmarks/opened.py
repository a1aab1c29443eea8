"""What the comparisons of Stage II begin with: a checkpoint, a split to ask, and a bank."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.core.bootstrap import DRAWS
from model.core.errors import InputError
from model.core.types import FloatArray, Modality
from model.data.open import open_collection
from model.data.records import Collection
from model.data.selection import BANK_SIZE
from model.heads.heads import Heads
from model.rerankers.learned.reranker import LearnedReranker
from model.rerankers.weights import StageTwo
from model.training.embedded import Embedded
from model.training.embedder import Embedder
from model.training.pairs import Pairs


@dataclass(frozen=True)
class Opened:
    """A split under an encoder, and what a default search of it stands on."""

    split: Embedded
    bank: Embedded
    heads: Heads
    stage_two: StageTwo
    learned: LearnedReranker | None = None

    @classmethod
    def of(cls, embedder: Embedder, split: Embedded, bank: Embedded, seed: int) -> "Opened":
        """A split and a bank, with heads as `meet-eval` fits them where there are none."""
        heads, learned = embedder.heads(bank.embeddings, seed), embedder.checkpoint.learned
        return cls(split, bank, heads, embedder.stage_two, learned)


@dataclass(frozen=True)
class WholeBank:
    """Everything that banks of any size are drawn from, embedded once."""

    collection: Collection
    pairs: Pairs
    embeddings: Mapping[Modality, FloatArray]

    @classmethod
    def of(cls, embedder: Embedder, collection: Collection, seed: int) -> "WholeBank":
        """All of a collection."""
        most = max(len(collection.records), len(collection.captions))
        pairs = Pairs.sampled(collection, most, seed)
        return cls(collection, pairs, embedder.embedded(pairs).embeddings)

    @property
    def size(self) -> int:
        """The least bank size that leaves nothing out."""
        return max(len(rows) for rows in self.embeddings.values())

    def sample(self, size: int, seed: int) -> Embedded:
        """The bank of at most `size` images and captions that a build would draw."""
        drawn = Pairs.sampled(self.collection, size, seed)
        images = np.searchsorted(self.pairs.image_rows, drawn.image_rows)
        texts = np.searchsorted(self.pairs.text_rows, drawn.text_rows)
        embeddings = {
            Modality.IMAGE: self.embeddings[Modality.IMAGE][images],
            Modality.TEXT: self.embeddings[Modality.TEXT][texts],
        }
        return Embedded(embeddings, drawn.image_of_text)


def arguments(prog: str, description: str | None) -> argparse.ArgumentParser:
    """The command line that the comparisons share."""
    root = argparse.ArgumentParser(prog=prog, description=description)
    root.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint directory")
    root.add_argument("--data", required=True, help="a data set")
    root.add_argument("--split", required=True, help="the split whose pairs are the queries")
    root.add_argument("--bank", required=True, metavar="DIR:SPLIT", help="the bank of pairs")
    root.add_argument("--bank-size", type=int, default=BANK_SIZE)
    root.add_argument("--seed", type=int, default=0, help="draws the bank and the bootstrap")
    root.add_argument("--out", type=Path, help="folder for the tables as Markdown and JSON")
    root.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return root


def as_typed(prog: str, argv: Sequence[str] | None) -> str:
    """The command line as it was typed, for a document to say how it was made."""
    return shlex.join(["python", "-m", prog, *(sys.argv[1:] if argv is None else argv)])


def add_bootstrap(root: argparse.ArgumentParser) -> None:
    """The flag of commands that give intervals."""
    root.add_argument("--bootstrap", type=int, default=DRAWS, help="draws of images")


def check(told: argparse.Namespace) -> None:
    """Refuse what no comparison can work with.

    Raises:
        InputError: an empty bank, a negative seed, no draws, or a file where a folder should be.
    """
    for name, least in (("bank_size", 1), ("seed", 0), ("bootstrap", 1)):
        value = getattr(told, name, least)
        if value < least:
            raise InputError(f"--{name.replace('_', '-')} must be {least} or more, got {value}")
    if told.out is not None and told.out.exists() and not told.out.is_dir():
        raise InputError(f"--out needs to be a folder, got the file {told.out}")


def open_with_bank(told: argparse.Namespace) -> Opened:
    """The split and the bank that are asked for; embeddings are kept beside the checkpoint."""
    embedder = Embedder.open(told.checkpoint)
    split = embedder.split(told.data, told.split)
    return Opened.of(
        embedder, split, embedder.bank(told.bank, told.bank_size, told.seed), told.seed
    )


def open_whole_bank(told: argparse.Namespace) -> tuple[Opened, WholeBank]:
    """The same, and what banks of other sizes are drawn from."""
    embedder = Embedder.open(told.checkpoint)
    split = embedder.split(told.data, told.split)
    whole = WholeBank.of(embedder, open_collection(told.bank), told.seed)
    return Opened.of(embedder, split, whole.sample(told.bank_size, told.seed), told.seed), whole


def write_out(folder: Path | None, stem: str, document: str, as_json: str) -> None:
    """Write the Markdown and the JSON of a comparison, where a folder is given."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.md").write_text(document, encoding="utf-8")
    (folder / f"{stem}.json").write_text(as_json + "\n", encoding="utf-8")
