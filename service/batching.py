"""A batch of searches answered together, so that one that fails fails alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from model.cascade import Ranking, SearchOptions
from model.core.types import Way
from service.deadlines import Pace, Plan, planned
from service.encoding import Encoded, encoded
from service.engine import SearchEngine
from service.fates import fates
from service.grouping import in_groups
from service.halving import Note, Outcome, in_halves
from service.jobs import Found
from service.likeness import own_row, with_room, without
from service.queries import Search


@dataclass(frozen=True)
class Batch:
    """Searches that are encoded together, then searched for together by direction.

    `halved` is told whatever made a part of the batch be tried again in halves.
    """

    engine: SearchEngine
    searches: Sequence[Search]
    pace: Pace
    halved: Note

    def answer(self) -> list[Outcome[Found]]:
        """What each search finds, or why it fails."""
        parts = encoded(self.engine, self.searches, self.halved)
        ready = [one for one in parts if isinstance(one, Encoded)]
        found = iter(in_groups(ready, lambda one: one.search.direction, self._found_or_failed))
        return [one if isinstance(one, Exception) else next(found) for one in parts]

    def _found_or_failed(self, way: Way, group: Sequence[Encoded]) -> list[Outcome[Found]]:
        return in_halves(group, partial(self._find, way), self.halved)

    def _find(self, way: Way, group: Sequence[Encoded]) -> list[Found]:
        """Rankings of one direction, each as whole as its deadline leaves time for."""
        plans = self._plans(way, [one.search for one in group])
        embeddings = np.array([one.embedding for one in group])
        options = [
            with_room(one.search, plan.options) for one, plan in zip(group, plans, strict=True)
        ]
        rankings = self.engine.cascade.search(way, embeddings, options)
        for plan, ranking in zip(plans, rankings, strict=True):
            self.pace.note(way, plan, sum(ranking.milliseconds.values()) / 1000)
        parts = zip(group, plans, rankings, strict=True)
        return [self._found(one, plan, ranking) for one, plan, ranking in parts]

    def _found(self, one: Encoded, plan: Plan, ranking: Ranking) -> Found:
        search, options = one.search, plan.options
        if (own := own_row(search)) is not None:
            ranking = without(ranking, own, options)
        spent = {"encode": one.milliseconds, **ranking.milliseconds}
        told = fates(self.engine, search, options, one.embedding, ranking)
        return Found(
            self.engine,
            ranking,
            spent,
            plan.degraded,
            one.embedding,
            options,
            {"encode": one.span, **ranking.spans},
            why_not=told,
        )

    def _named(self, way: Way, options: SearchOptions) -> SearchOptions:
        """The options with a mode, which requests name already and probes do not."""
        if options.rerank is not None:
            return options
        return replace(options, rerank=self.engine.cascade.second.mode_of(way, None))

    def _plans(self, way: Way, searches: Sequence[Search]) -> list[Plan]:
        asked = [self._named(way, one.options) for one in searches]
        return planned(self.pace, way, asked, [one.deadline for one in searches])
