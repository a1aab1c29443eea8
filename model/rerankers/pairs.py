"""What a query finds in a bank of pairs: its nearest entries, and what they are paired with.

A caption that was written for a picture like the one that is sought leads to that picture, and
from there to its kin in the gallery: query expansion by the bank's pairs, the online counterpart
of LeaPRR's pillars (SIGIR 2023). Nearest entries are found as the gallery's are: by hash codes
first, then by cosine.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.ann.faiss_door import HammingIndex
from model.ann.halves import widened
from model.ann.selection import along, top_positions
from model.core.errors import CodeShapeError
from model.core.types import FloatArray, HalfArray, Modality, RowArray
from model.core.vectors import cosines, pack_signs
from model.heads.heads import ENCODE_ROWS, Heads

NEIGHBOURS = 20
SHARPNESS = 20.0
SHORTLIST = 256
TOGETHER = 8  # items whose shortlists' vectors are in memory at once


class Expansion(NamedTuple):
    """What a bank says of items, vectors (..., D) of length 1 at most.

    `alike` is the mean of its nearest entries of its own modality, `partners` that of what these
    are paired with, `nearest` that of its nearest entries of the other modality.
    """

    partners: FloatArray
    nearest: FloatArray
    alike: FloatArray

    def at(self, item: int) -> "Expansion":
        """What it says of one of them, vectors (D,)."""
        return Expansion(*(vectors[item] for vectors in self))


class PairBank:
    """A bank of images and captions with the pairs between them; safe to share on a CPU."""

    def __init__(
        self,
        embeddings: Mapping[Modality, NDArray[np.floating]],
        image_of_text: RowArray,
        heads: Heads,
    ) -> None:
        """Take unit embeddings (B, D) of both modalities, and each text's image or -1.

        Raises:
            CodeShapeError: not every text has its place in `image_of_text`.
        """
        if len(image_of_text) != len(embeddings[Modality.TEXT]):
            raise CodeShapeError(
                f"every text of a bank needs its image or -1: {len(embeddings[Modality.TEXT])} "
                f"texts, {len(image_of_text)} images"
            )
        self._embeddings = {m: np.asarray(e) for m, e in embeddings.items()}
        self._codes = {m: _index(heads, m, e) for m, e in self._embeddings.items()}
        self._image_of_text = np.asarray(image_of_text)
        self._texts = np.argsort(self._image_of_text, kind="stable")  # by image
        images = np.arange(len(self._embeddings[Modality.IMAGE]) + 1)
        self._first_text = np.searchsorted(self._image_of_text[self._texts], images)

    def with_heads(self, heads: Heads) -> "PairBank":
        """The same pairs behind the codes of other heads."""
        return PairBank(self._embeddings, self._image_of_text, heads)

    def expand(self, modality: Modality, query: FloatArray, hash_space: FloatArray) -> Expansion:
        """The expansion of a query (D,) of a modality with its hash-space vector (K,)."""
        return self.expansions(modality, query[None], hash_space[None]).at(0)

    def expansions(
        self, modality: Modality, queries: FloatArray, hash_space: FloatArray
    ) -> Expansion:
        """Those of queries (Q, D), each the same bits whoever shares the call."""
        codes = pack_signs(hash_space)
        rows, shares = self._nearest(modality, queries, codes)
        partners = [
            self._mean(modality.other, *self._partners(modality, *one))
            for one in zip(rows, shares, strict=True)
        ]
        return Expansion(
            np.stack(partners),
            self._mean(modality.other, *self._nearest(modality.other, queries, codes)),
            self._mean(modality, rows, shares),
        )

    def contexts(
        self, modality: Modality, items: NDArray[np.floating], hash_space: FloatArray
    ) -> HalfArray:
        """The expansions (N, 3, D) of items (N, D), in the order of its fields."""
        found = np.empty((len(items), len(Expansion._fields), items.shape[1]), np.float16)
        for start in range(0, len(items), TOGETHER):
            some = slice(start, start + TOGETHER)
            said = self.expansions(modality, widened(items[some]), hash_space[some])
            found[some] = np.stack(said, axis=1)
        return found

    def _nearest(
        self, modality: Modality, queries: FloatArray, codes: NDArray[np.uint8]
    ) -> tuple[RowArray, FloatArray]:
        """The nearest entries (Q, n) of a modality and their shares, which sum to one."""
        rows = np.sort(self._codes[modality].search(codes, SHORTLIST)[1], axis=1)
        near = cosines(widened(self._embeddings[modality].take(rows, axis=0)), queries)
        best = top_positions(near, rows, NEIGHBOURS)
        top = along(near, best)
        weights = np.exp(SHARPNESS * (top - top[:, :1]))
        shares = weights / weights.sum(axis=1, keepdims=True)
        return along(rows, best), shares.astype(np.float32, copy=False)

    def _partners(
        self, modality: Modality, rows: RowArray, shares: FloatArray
    ) -> tuple[RowArray, FloatArray]:
        """What entries (n,) are paired with; an image's share is divided among its captions."""
        if modality is Modality.TEXT:
            images = self._image_of_text[rows]
            known = images >= 0
            return images[known], shares[known]
        firsts, counts = self._first_text[rows], np.diff(self._first_text)[rows]
        turns = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        texts = self._texts[np.repeat(firsts, counts) + turns]
        return texts, np.repeat(shares / np.maximum(counts, 1), counts).astype(np.float32)

    def _mean(self, modality: Modality, rows: RowArray, shares: FloatArray) -> FloatArray:
        """Σ share · embedding (..., D) over entries (..., n); nothing to sum gives zeros."""
        vectors = widened(self._embeddings[modality].take(rows, axis=0))
        mean: FloatArray = np.einsum("...c,...cd->...d", shares, vectors)
        return mean


def _index(heads: Heads, modality: Modality, embeddings: NDArray[np.floating]) -> HammingIndex:
    """The bank's hash codes, made in bounded memory."""
    codes = [
        pack_signs(heads.hash_space(modality, embeddings[start : start + ENCODE_ROWS]))
        for start in range(0, len(embeddings), ENCODE_ROWS)
    ]
    return HammingIndex.from_codes(np.concatenate(codes))
