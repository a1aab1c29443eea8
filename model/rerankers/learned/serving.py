"""The learned re-ranker over an opened index: one query's best candidates, scored anew."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.ann.halves import widened
from model.artifact.reader import Artifact
from model.core.types import Direction, FloatArray, HalfArray, Modality, RowArray
from model.rerankers.learned.reranker import Case, LearnedReranker
from model.rerankers.learned.terms import list_terms
from model.rerankers.pairs import Expansion


@dataclass(frozen=True)
class LearnedMode:
    """Networks, and the contexts (N, 3, D) of every side's items; safe to share on a CPU."""

    reranker: LearnedReranker
    contexts: Mapping[Modality, HalfArray]

    @classmethod
    def of_artifact(cls, artifact: Artifact) -> "LearnedMode | None":
        """What an opened index holds; its contexts stay mapped."""
        contexts = {
            modality: np.asarray(side.contexts)
            for modality, side in artifact.sides.items()
            if side.contexts is not None
        }
        return cls(artifact.learned, contexts) if artifact.learned and contexts else None

    @property
    def depth(self) -> int:
        """L, how many candidates are scored."""
        return self.reranker.config.candidates

    def scores(
        self,
        case: Case,
        query: FloatArray,
        expansion: Expansion,
        rows: RowArray,
        vectors: FloatArray,
        lists: HalfArray,
    ) -> FloatArray:
        """Scores (L,) of a query (D,) and its candidates (L, D) in their order by relationship."""
        contexts = widened(self.contexts[case.direction.candidate][rows])
        views = np.concatenate([vectors[:, None], contexts], axis=1)  # (L, 4, D)
        terms = list_terms(np.stack([query, *expansion]), views, lists)
        return self.reranker.scores(case, terms)

    def orders(self, direction: Direction) -> bool:
        """Whether the candidates of a direction have contexts."""
        return direction.candidate in self.contexts
