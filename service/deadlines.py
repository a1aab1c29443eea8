"""What is left out of a search that has little time, in a fixed order, and how much time it takes.

The order: a learned re-ranker gives way to the relationship, the relationship to the plain
cosine, an exact search to one with candidates, and then fewer of these are looked at. Filters,
pages, least scores and collapsing always stay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from model.cascade import SearchOptions
from model.core.types import RerankMode, Way

EXACT = "exact"
CANDIDATES = "candidates"  # the name of the last thing to be shortened
FEWER = 4  # by what candidates are divided then
PLAIN = (RerankMode.RELATIONSHIP, RerankMode.REFERENCE, RerankMode.NONE)
DEGRADABLE = (
    *(mode.value for mode in RerankMode if mode is not RerankMode.NONE),
    EXACT,
    CANDIDATES,
)
SMOOTHING = 0.3
# What is not measured any more is believed less and less, so that nothing stays left out for ever.
HALF_LIFE_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """How a search is done: its options, and what had to be left out or shortened."""

    options: SearchOptions
    degraded: tuple[str, ...] = ()

    @property
    def kind(self) -> tuple[RerankMode | None, bool, bool]:
        """What its time depends on, beside the direction."""
        return self.options.rerank, self.options.exact, CANDIDATES in self.degraded


def plans(asked: SearchOptions) -> list[Plan]:
    """The plan that was asked for, and the shorter ones after it, in order."""
    found = [Plan(asked)]
    if asked.rerank not in PLAIN:
        found.append(_without(found[-1], RerankMode.RELATIONSHIP))
    if asked.rerank is not RerankMode.NONE:
        found.append(_without(found[-1], RerankMode.NONE))
    if asked.exact:
        last = found[-1]
        found.append(Plan(replace(last.options, exact=False), (*last.degraded, EXACT)))
    last = found[-1]
    return [*found, Plan(_fewer(last.options), (*last.degraded, CANDIDATES))]


def _without(plan: Plan, instead: RerankMode) -> Plan:
    left_out = str(plan.options.rerank)
    return Plan(replace(plan.options, rerank=instead), (*plan.degraded, left_out))


def _fewer(options: SearchOptions) -> SearchOptions:
    """A quarter of the candidates; hits beyond them would cost more than they save."""
    budget = options.budget
    limits = {
        "at_least": max(options.depth, budget.at_least // FEWER),
        "max_hash": max(1, budget.max_hash // FEWER),
        "max_pq": max(1, budget.max_pq // FEWER),
        "keep_hash": budget.keep_hash / FEWER,
        "keep_pq": budget.keep_pq / FEWER,
    }
    return replace(options, budget=budget.model_copy(update=limits))


Kind = tuple[Way, RerankMode | None, bool, bool]


class Pace:
    """Seconds that a search of each kind has taken lately; used by one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[Kind, tuple[float, float]] = {}  # seconds, when

    def seconds(self, direction: Way, plan: Plan) -> float:
        """The expectation for one search of a batch; 0 where nothing is known."""
        seconds, seen = self._seen.get((direction, *plan.kind), (0.0, 0.0))
        return seconds * math.exp2((seen - monotonic()) / HALF_LIFE_SECONDS)

    def note(self, direction: Way, plan: Plan, seconds: float) -> None:
        """Take one more measurement into account."""
        before, _ = self._seen.get((direction, *plan.kind), (seconds, 0.0))
        mean = (1 - SMOOTHING) * before + SMOOTHING * seconds
        self._seen[direction, *plan.kind] = mean, monotonic()


def planned(
    pace: Pace, direction: Way, asked: Sequence[SearchOptions], deadlines: Sequence[float]
) -> list[Plan]:
    """A plan for each search of a group that is answered at once.

    Searches that the whole group's time is too long for are shortened step by step, the others
    stay as they were asked for.
    """
    whole = [Plan(options) for options in asked]
    if monotonic() + sum(pace.seconds(direction, plan) for plan in whole) <= min(deadlines):
        return whole
    choices = [plans(options) for options in asked]
    steps = [0] * len(asked)
    while True:
        chosen = [choice[step] for choice, step in zip(choices, steps, strict=True)]
        ends = monotonic() + sum(pace.seconds(direction, plan) for plan in chosen)
        late = [
            place
            for place, deadline in enumerate(deadlines)
            if deadline < ends and steps[place] + 1 < len(choices[place])
        ]
        if not late:
            return chosen
        for place in late:
            steps[place] += 1
