"""Stage II beside every simple rule, on one checkpoint, under both protocols.

    python -m benchmarks.rules --checkpoint CKPT --data DIR --split dev --bank DIR:train

Rules rank whole matrices, without Stage I, so that they are compared as rules; the served cascade
comes last. All are compared with Stage II by relationship, or, where the checkpoint has a learned
re-ranker, with the cascade that serves that. Every rule stands there at its usual setting, and at
the best of a short grid chosen on the very split that is measured, for each direction alone: an
advantage that Stage II, whose weights saw held-out pairs of the train split, does not have.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.evidence import Evidence, Sought
from benchmarks.opened import (
    Opened,
    add_bootstrap,
    arguments,
    as_typed,
    check,
    open_with_bank,
    write_out,
)
from benchmarks.simple_rules import FAMILIES, Family, Rule, setting
from benchmarks.whole_stage_two import WholeStageTwo
from model.cascade import Cascade
from model.core.bootstrap import Interval, paired_difference
from model.core.command import exit_status
from model.core.metrics import SHORT, PairRanks, Recalls, best_true_ranks, recall_at
from model.core.types import Direction, Frozen, RankArray, RerankMode
from model.progress import bar
from model.training.evaluation import (
    LIST_DEPTH,
    PROTOCOLS,
    SHARES_ALONE,
    cascade_lists,
    cascade_over,
    list_ranks,
    pair_bank,
)
from model.training.rankings import RankingName
from model.training.report import markdown

DEFAULT, SERVED, LEARNED = "default Stage II", "served cascade", "learned, served"
BEST = ", best"
HEAD = ("ranking", "setting", *(f"{w} {c}" for w in SHORT.values() for c in ("R@1", "R@5", "R@10")))
COLUMNS = (*HEAD, "rSum", "Stage II less it (95 %)")

Evidences = Mapping[Direction, Evidence]


class Ranked(NamedTuple):
    """One ranking of a protocol before it is compared."""

    name: str
    setting: str
    ranks: PairRanks


class Row(Frozen):
    """One line of the table; `ahead` is how far what all are compared with is above it."""

    protocol: str
    name: str
    setting: str
    recalls: Recalls
    ahead: Interval | None

    @property
    def is_rule(self) -> bool:
        """Whether it competes: it is not Stage II once more behind Stage I."""
        return self.name != SERVED and self.ahead is not None


def compare(opened: Opened, draws: int, seed: int) -> Iterator[Row]:
    """The rows of both protocols, inductive first."""
    sought = {d: Sought.of(opened.split, opened.bank, d) for d in Direction}
    for protocol in reversed(PROTOCOLS):
        evidence = evidence_of(opened, sought, protocol)
        ranked = [one for family in bar(FAMILIES, desc=protocol) for one in at(family, evidence)]
        yield from _rows(opened, protocol, ranked, draws, seed)


def evidence_of(
    opened: Opened, sought: Mapping[Direction, Sought], protocol: RankingName
) -> dict[Direction, Evidence]:
    """What the rules may look at under a protocol."""
    if protocol is RankingName.TRANSDUCTIVE:
        return {d: Evidence.transductive(one) for d, one in sought.items()}
    bank = opened.bank.embeddings
    return {d: Evidence.inductive(one, bank[d.query]) for d, one in sought.items()}


def at(family: Family, evidence: Evidences) -> Iterator[Ranked]:
    """A rule at its usual settings, then at the best of its grid in each direction."""
    for rule in family.usual:
        ranks = {d: rule_ranks(rule, seen) for d, seen in evidence.items()}
        yield Ranked(family.name, setting(rule), PairRanks.of(ranks))
    if family.grid:
        best = {d: best_of(family.grid, seen) for d, seen in evidence.items()}
        told = "; ".join(f"{SHORT[d]}: {setting(best[d][0])}" for d in SHORT)
        ranks = {d: own for d, (_, own) in best.items()}
        yield Ranked(family.name + BEST, told, PairRanks.of(ranks))


def best_of(grid: Sequence[Rule], seen: Evidence) -> tuple[Rule, RankArray]:
    """The rule with the highest sum of recalls in a direction, and its ranks (Q,)."""
    tried = [(rule, rule_ranks(rule, seen)) for rule in grid]
    return max(tried, key=lambda one: sum(recall_at(one[1])))


def rule_ranks(rule: Rule, seen: Evidence) -> RankArray:
    """Ranks (Q,) of every query's best true match under a rule."""
    return best_true_ranks(rule.scores(seen), seen.sought.is_true)


def stage_two_rankings(opened: Opened, protocol: RankingName) -> list[Ranked]:
    """Stage II without Stage I, then as served; the learned re-ranker as served where there is one.

    The latter two see what Stage I keeps.
    """
    own = protocol is RankingName.TRANSDUCTIVE
    bank, pairs = None if own else opened.bank.embeddings, pair_bank(opened.bank, opened.heads)
    whole = WholeStageTwo.of(opened.split, opened.heads, opened.stage_two)
    lists = whole.lists(bank, LIST_DEPTH)
    default = whole.ranks(lists, whole.expanded(pairs), own_bank=own)
    cascade = cascade_over(
        opened.split, opened.heads, opened.stage_two, bank, pairs, learned=opened.learned
    )
    kept = f"{SHARES_ALONE.keep_hash:.0%}, then {SHARES_ALONE.keep_pq:.0%} kept"
    modes = {SERVED: RerankMode.RELATIONSHIP, LEARNED: RerankMode.LEARNED}
    return [Ranked(DEFAULT, "no Stage I", default)] + [
        Ranked(name, kept, _served(cascade, opened, mode))
        for name, mode in modes.items()
        if mode in cascade.second.modes
    ]


def _served(cascade: Cascade, opened: Opened, mode: RerankMode) -> PairRanks:
    return list_ranks(opened.split, cascade_lists(cascade, opened.split, SHARES_ALONE, mode))


def _rows(
    opened: Opened, protocol: RankingName, ranked: Sequence[Ranked], draws: int, seed: int
) -> Iterator[Row]:
    ours = stage_two_rankings(opened, protocol)
    compared = ours[0] if opened.learned is None else ours[-1]
    owners = opened.split.image_of_text
    for one in (*ranked, *ours):
        ahead = paired_difference(compared.ranks, one.ranks, owners, draws, seed)
        yield Row(
            protocol=protocol.value,
            name=one.name,
            setting=one.setting,
            recalls=Recalls.of(*one.ranks),
            ahead=None if one is compared else ahead,
        )


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown; a line names each protocol."""
    lines, group = [], ""
    for row in rows:
        if row.protocol != group:
            group = row.protocol
            lines.append([f"**{group}**", *[""] * (len(COLUMNS) - 1)])
        values = (*row.recalls.i2t, *row.recalls.t2i, row.recalls.rsum)
        lines.append([row.name, row.setting, *(f"{v:.1f}" for v in values), _ahead(row)])
    return markdown(COLUMNS, lines)


def _ahead(row: Row) -> str:
    if row.ahead is None:
        return ""
    return f"{row.ahead.value:+.1f} ({row.ahead.low:+.1f} to {row.ahead.high:+.1f})"


def verdict(rows: Sequence[Row]) -> str:
    """Which ranking comes nearest to what all are compared with, or is above it."""
    said, compared = [], next((row.name for row in rows if row.ahead is None), DEFAULT)
    for protocol in dict.fromkeys(row.protocol for row in rows):
        own = [(row.ahead.value, row) for row in rows if row.protocol == protocol and row.ahead]
        gap, row = min(((gap, row) for gap, row in own if row.is_rule), key=lambda one: one[0])
        word = "below" if gap < 0 else "above"
        said.append(f"{protocol}: {abs(gap):.1f} {word} {row.name} ({row.setting})")
    return f"{compared}, against the best of the others: " + "; ".join(said) + "."


def document(rows: Sequence[Row], command: str) -> str:
    """The table as a file that says how it was made."""
    return (
        "# Stage II beside the simple rules\n\n"
        f"Made by\n\n```sh\n{command}\n```\n\n"
        "Rules rank all candidates, without Stage I. Inductive: what a rule asks of the queries' "
        "side it asks the bank; transductive: it asks the split's own queries. Pairs always come "
        "from the bank. `best` is the best of a short grid **chosen on this very split**, each "
        "direction alone: an advantage given to the rules. The last column is the rSum of the row "
        "where it is empty less the row's, with its 95 % bootstrap interval over images.\n\n"
        f"{table(rows)}\n\n{verdict(rows)}\n"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = arguments("benchmarks.rules", __doc__)
    add_bootstrap(root)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    command = as_typed("benchmarks.rules", argv)
    return exit_status("benchmarks.rules", lambda: _run(told, command))


def _run(told: argparse.Namespace, command: str) -> None:
    check(told)
    rows = list(compare(open_with_bank(told), told.bootstrap, told.seed))
    dumped = json.dumps([row.model_dump() for row in rows], indent=2, ensure_ascii=False)
    write_out(told.out, "rules", document(rows, command), dumped)
    print(dumped if told.json else f"{table(rows)}\n\n{verdict(rows)}")


if __name__ == "__main__":
    sys.exit(main())
