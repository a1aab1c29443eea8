"""What each part of Stage I and Stage II gives: one table, one command.

    python -m benchmarks.ablation --checkpoint CKPT --data DIR --split dev --bank DIR:SPLIT

Heads are trained anew on the train split of DIR for every row that changes them; the rest is
measured with the heads of the first row. Nothing is learned from the split that is measured.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.opened import as_typed
from model.core.command import checked, exit_status
from model.core.types import CandidateBudget, Frozen
from model.data.selection import BANK_SIZE
from model.heads.fitting import fit_heads
from model.heads.heads import Heads
from model.progress import bar
from model.rerankers.weights import DirectionWeights, StageTwo
from model.training.embedded import Embedded
from model.training.embedder import Embedder
from model.training.evaluation import LIST_DEPTH, SHARES_ALONE, evaluate_split
from model.training.heads_training import train_heads
from model.training.options import CodebookLearning, HeadsOptions
from model.training.report import markdown

FACTORS = (0.25, 4.0)  # of β1 and β2
BITS = (32, 128, 256)
SUBSPACES, CENTROIDS = (4, 16), (16, 64)
TERM_FACTORS = (0.5, 2.0)  # of both weights
DEPTHS = (16, 64, 256)
ALPHA, BETA = "consistency", "complementarity"  # as the paper calls them
COLUMNS = (
    "variation",
    "hash i2t",
    "hash t2i",
    "PQ i2t",
    "PQ t2i",
    "base",
    "inductive",
    "transductive",
)


@dataclass(frozen=True)
class Variation:
    """One row: what is changed, and everything that it is measured with.

    `trained` is False for heads that are fitted without training (PCA and a rotation).
    """

    group: str
    name: str
    heads: HeadsOptions
    stage_two: StageTwo
    trained: bool = True
    budget: CandidateBudget = SHARES_ALONE
    z: int = LIST_DEPTH


class Row(Frozen):
    """What a row says: percent of queries with a true match kept, and rSum."""

    group: str
    name: str
    hash_i2t: float
    hash_t2i: float
    pq_i2t: float
    pq_t2i: float
    base: float
    inductive: float
    transductive: float


@dataclass(frozen=True)
class World:
    """What the rows share: embedded pairs to learn from, to measure on and to rank among."""

    train: Embedded
    split: Embedded
    bank: Embedded
    made: dict[tuple[HeadsOptions, bool], Heads] = field(default_factory=dict)

    @classmethod
    def of(cls, told: argparse.Namespace, opened: Embedder) -> "World":
        """The three sets under a checkpoint's encoder."""
        bank = opened.bank(told.bank, told.bank_size, told.seed)
        train, split = (opened.split(told.data, name) for name in ("train", told.split))
        return cls(train, split, bank)

    def heads(self, options: HeadsOptions, *, trained: bool) -> Heads:
        """Heads of some options, made once."""
        key = (options, trained)
        if key not in self.made:
            self.made[key] = self._heads(options, trained=trained)
        return self.made[key]

    def measure(self, one: Variation, heads: Heads | None = None) -> Row:
        """A row; `heads` are those of the checkpoint, where it is measured as it is."""
        heads = heads or self.heads(one.heads, trained=one.trained)
        found = evaluate_split(self.split, heads, one.stage_two, one.budget, self.bank, one.z)
        rsums = {name: recalls.rsum for name, recalls in found.protocols.items() if recalls}
        by_hash, by_pq = found.kept["hash"], found.kept["pq"]
        return Row(
            group=one.group,
            name=one.name,
            hash_i2t=by_hash.i2t,
            hash_t2i=by_hash.t2i,
            pq_i2t=by_pq.i2t,
            pq_t2i=by_pq.t2i,
            base=found.base.rsum,
            inductive=rsums["inductive"],
            transductive=rsums["transductive"],
        )

    def _heads(self, options: HeadsOptions, *, trained: bool) -> Heads:
        if trained:
            return train_heads(self.train.embeddings, self.train.image_of_text, options)
        dim = next(iter(self.train.embeddings.values())).shape[1]
        return fit_heads(options.config(dim), self.train.embeddings, options.seed)


def variations(heads: HeadsOptions, stage_two: StageTwo) -> list[Variation]:
    """Every row of the table, the one that all others change first."""
    default = Variation("default", _widths(heads), heads, stage_two)
    rows = [default]
    for group, make in GROUPS.items():
        rows += [replace(row, group=group) for row in make(default)]
    return rows


def losses(default: Variation) -> Iterator[Variation]:
    """Each loss off, and no training at all."""
    names = {
        "ranking": "no ranking loss",
        "sign_ranking": "no ranking loss of the signs",
        "beta_1": "no L_f",
        "beta_2": "no L_q",
    }
    for option, name in names.items():
        yield _other_heads(default, name, **{option: 0.0})
    yield _other_heads(default, "no ranking loss at all", ranking=0.0, sign_ranking=0.0)
    yield replace(default, name="fitted, not trained", trained=False)


def loss_weights(default: Variation) -> Iterator[Variation]:
    """β1 and β2 around their defaults."""
    for option, symbol in (("beta_1", "β1"), ("beta_2", "β2")):
        for factor in FACTORS:
            value = factor * getattr(default.heads, option)
            yield _other_heads(default, f"{symbol} = {value:g}", **{option: value})


def widths(default: Variation) -> Iterator[Variation]:
    """K, M and L."""
    for option, values in (
        ("n_bits", BITS),
        ("n_subspaces", SUBSPACES),
        ("n_centroids", CENTROIDS),
    ):
        for value in values:
            if value != getattr(default.heads, option):
                row = _other_heads(default, "", **{option: value})
                yield replace(row, name=_widths(row.heads))


def codebooks(default: Variation) -> Iterator[Variation]:
    """Shared against per-modality codebooks, k-means against gradients."""
    for shared in (False, True):
        for learning in CodebookLearning:
            row = _other_heads(default, "", shared_codebooks=shared, codebooks=learning)
            kind = "shared" if shared else "per modality"
            if row.heads != default.heads:
                yield replace(row, name=f"codebooks {kind}, {learning.value}")


def stages(default: Variation) -> Iterator[Variation]:
    """Each stage off."""
    whole = default.budget.model_copy(update={"keep_hash": 1.0})
    yield replace(default, name="no hash stage", budget=whole)
    hash_alone = default.budget.model_copy(update={"keep_hash": default.budget.keep_pq})
    yield replace(default, name="no PQ stage (the hash keeps as many)", budget=hash_alone)
    everything = whole.model_copy(update={"keep_pq": 1.0})
    yield replace(default, name="no Stage I", budget=everything)
    cosine = reweighed(default.stage_two, _cosine_alone)
    yield replace(default, name="no Stage II", stage_two=cosine)
    yield replace(default, name="neither", stage_two=cosine, budget=everything)


def terms(default: Variation) -> Iterator[Variation]:
    """Each term of Stage II off, alpha and beta around their values."""
    for term in weighted_terms(default.stage_two):
        off = reweighed(default.stage_two, _scaling(term, 0.0))
        yield replace(default, name=f"no {term}", stage_two=off)
    for term, symbol in ((ALPHA, "alpha"), (BETA, "beta")):
        for factor in TERM_FACTORS:
            changed = reweighed(default.stage_two, _scaling(term, factor))
            if changed != default.stage_two:
                yield replace(default, name=f"{factor:g} {symbol}", stage_two=changed)


def depths(default: Variation) -> Iterator[Variation]:
    """Depths of the reverse lists."""
    for z in DEPTHS:
        yield replace(default, name=f"z = {z}", z=z)


GROUPS: dict[str, Callable[[Variation], Iterator[Variation]]] = {
    "losses": losses,
    "β1, β2": loss_weights,
    "widths": widths,
    "codebooks": codebooks,
    "stages": stages,
    "terms": terms,
    "z": depths,
}


def reweighed(
    stage_two: StageTwo, change: Callable[[DirectionWeights], DirectionWeights]
) -> StageTwo:
    """Stage II with the weights of every bank and direction changed."""
    update = {}
    for name in StageTwo.model_fields:
        value = getattr(stage_two, name)
        if isinstance(value, dict):
            update[name] = {direction: change(weights) for direction, weights in value.items()}
    return stage_two.model_copy(update=update)


def weighted_terms(stage_two: StageTwo) -> list[str]:
    """The terms that count somewhere and may be 0: a temperature is no term."""
    found: dict[str, None] = {}

    def look(weights: DirectionWeights) -> DirectionWeights:
        found.update(dict.fromkeys(t for t in _terms() if getattr(weights, t) != 0))
        return weights

    reweighed(stage_two, look)
    return list(found)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown; a line names each group."""
    lines: list[list[str]] = []
    group = rows[0].group if rows else ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append([f"**{group}**", *[""] * (len(COLUMNS) - 1)])
        values = row.model_dump(exclude={"group", "name"}).values()
        lines.append([row.name, *(f"{value:.1f}" for value in values)])
    return markdown(COLUMNS, lines)


def document(rows: Sequence[Row], command: str) -> str:
    """The table as a file that says how it was made."""
    return (
        "# Ablation of Stage I and Stage II\n\n"
        f"Made by\n\n```sh\n{command}\n```\n\n"
        "Heads and weights saw the train split alone. Shown: percent of queries with a true match "
        "among what a stage keeps; rSum of the plain cosine (base) and of the cascade, inductive "
        "(lists over the given bank) and transductive (over the split itself).\n\n"
        f"{table(rows)}\n"
    )


def _other_heads(default: Variation, name: str, **options: object) -> Variation:
    heads = HeadsOptions(**{**default.heads.model_dump(), **options})
    return replace(default, name=name, heads=heads)


def _widths(heads: HeadsOptions) -> str:
    return f"K = {heads.n_bits}, M = {heads.n_subspaces}, L = {heads.n_centroids}"


def _scaling(term: str, factor: float) -> Callable[[DirectionWeights], DirectionWeights]:
    def scaled(weights: DirectionWeights) -> DirectionWeights:
        return weights.model_copy(update={term: factor * getattr(weights, term)})

    return scaled


def _cosine_alone(weights: DirectionWeights) -> DirectionWeights:
    return weights.model_copy(update=dict.fromkeys(set(_terms()) - {ALPHA}, 0.0))


def _terms() -> list[str]:
    """Weights of one number that may be 0."""
    return [name for name in DirectionWeights.model_fields if _may_be_zero(name)]


def _may_be_zero(name: str) -> bool:
    if DirectionWeights.model_fields[name].annotation is not float:
        return False
    try:
        DirectionWeights.model_validate({name: 0.0})
    except ValidationError:
        return False
    return True


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="benchmarks.ablation", description=__doc__)
    root.add_argument("--checkpoint", required=True, help="a checkpoint directory")
    root.add_argument("--data", required=True, help="a data set with a train split")
    root.add_argument("--split", required=True, help="the split that is measured")
    root.add_argument("--bank", required=True, metavar="DIR:SPLIT", help="the inductive bank")
    root.add_argument("--bank-size", type=int, default=BANK_SIZE)
    root.add_argument("--epochs", type=int, help="passes that train the heads of a row")
    root.add_argument("--only", nargs="+", choices=list(GROUPS), help="groups of rows (all)")
    root.add_argument("--seed", type=int, default=0)
    root.add_argument("--json", action="store_true", help="print JSON instead of a table")
    root.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    told = parser().parse_args(argv)
    command = as_typed("benchmarks.ablation", argv)
    return exit_status("benchmarks.ablation", lambda: _run(told, command))


def _run(told: argparse.Namespace, command: str) -> None:
    rows = []
    for row in ablate(told):
        rows.append(row)
        if told.out is not None:  # a run that is stopped leaves what it has
            told.out.write_text(document(rows, command), encoding="utf-8")
    dumped = [row.model_dump() for row in rows]
    print(json.dumps(dumped, indent=2, ensure_ascii=False) if told.json else table(rows))


def ablate(told: argparse.Namespace) -> Iterator[Row]:
    """Every row that is asked for, the checkpoint as it is before them."""
    options = _options(told)
    opened = Embedder.open(told.checkpoint)
    world = World.of(told, opened)
    chosen = variations(options, opened.stage_two)
    wanted = {"default", *(told.only or GROUPS)}
    if opened.checkpoint.heads is not None:
        yield world.measure(replace(chosen[0], name="the checkpoint"), opened.checkpoint.heads)
    for one in bar([one for one in chosen if one.group in wanted], desc="variations"):
        yield world.measure(one)


def _options(told: argparse.Namespace) -> HeadsOptions:
    values: dict[str, Any] = {"seed": told.seed}
    if told.epochs is not None:
        values["epochs"] = told.epochs
    return checked(HeadsOptions, values)


if __name__ == "__main__":
    sys.exit(main())
