from pathlib import Path

import numpy as np
import pytest

from model.core.errors import MissingExtraError
from model.core.metrics import SHORT
from model.core.types import CandidateBudget, Direction, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.heads.product_quantiser import decode
from model.rerankers.weights import StageTwo
from model.training.curves import Curves, curves_of, stage_ranks
from model.training.embedded import Embedded
from model.training.evaluation import HITS, Measured, evaluation_of, measure_split
from model.training.report import text_table, write_report

BUDGET = CandidateBudget(keep_hash=0.4, keep_pq=0.25, at_least=1)
FOLDS = 2


@pytest.fixture(scope="module")
def split() -> Embedded:
    rng = np.random.default_rng(0)
    images = l2_normalised(rng.standard_normal((60, 16)).astype(np.float32))
    owners = np.repeat(np.arange(60), 3)
    texts = l2_normalised(
        (images[owners] + 0.4 * rng.standard_normal((180, 16))).astype(np.float32)
    )
    return Embedded({Modality.IMAGE: images, Modality.TEXT: texts}, owners)


@pytest.fixture(scope="module")
def parts(split: Embedded) -> list[Measured]:
    config = HeadsConfig(embedding_dim=16, n_bits=24, n_subspaces=3, n_centroids=16)
    heads = fit_heads(config, split.embeddings, 0)
    folds = [split.fold(i, FOLDS) for i in range(FOLDS)]
    return [measure_split(fold, heads, StageTwo(), BUDGET, split) for fold in folds]


@pytest.fixture(scope="module")
def curves(parts: list[Measured], split: Embedded) -> Curves:
    return curves_of(parts, BUDGET, split.embeddings, 0)


def test_at_the_budget_a_curve_says_what_the_evaluation_kept(
    parts: list[Measured], curves: Curves
) -> None:
    kept = evaluation_of(parts).kept
    for stage, by_direction in curves.kept.items():
        for short, curve in by_direction.items():
            at = curve.percent[curve.candidates.index(curve.budget)]
            assert at == pytest.approx(getattr(kept[stage], short))
    n_texts = len(parts[0].split.image_of_text)
    first, second = BUDGET.keeping(HITS).counts(n_texts)
    assert (curves.kept["hash"]["i2t"].budget, curves.kept["pq"]["i2t"].budget) == (first, second)
    assert curves.kept["hash"]["i2t"].candidates[-1] == n_texts
    assert curves.kept["pq"]["i2t"].candidates[-1] == first


def test_curves_rise_to_all_and_the_pq_stage_ends_where_the_hash_stage_let_it(
    curves: Curves,
) -> None:
    for short in SHORT.values():
        by_hash, by_pq = curves.kept["hash"][short], curves.kept["pq"][short]
        for curve in (by_hash, by_pq):
            assert list(curve.candidates) == sorted(set(curve.candidates))
            assert list(curve.percent) == sorted(curve.percent)
        assert by_hash.percent[-1] == 100.0
        at = by_hash.candidates.index(by_hash.budget)
        assert by_pq.percent[-1] == pytest.approx(by_hash.percent[at])


def test_stages_order_by_hamming_distance_and_by_the_decoded_vector(parts: list[Measured]) -> None:
    """One query after another: bits that differ, then inner products, ties to the lower row."""
    part, direction = parts[1], Direction.TEXT_TO_IMAGE
    heads, split = part.cascade.heads, part.split
    stored = split.embeddings[Modality.IMAGE].astype(np.float16)
    codes = heads.encode(Modality.IMAGE, stored)
    bits = np.unpackbits(codes.hash_codes, axis=1, bitorder="little")
    decoded = decode(heads.heads[Modality.IMAGE].codebooks, codes.pq_codes)
    queries = heads.hash_space(Modality.TEXT, split.embeddings[Modality.TEXT])
    first, _ = BUDGET.keeping(HITS).counts(len(stored))
    by_hash, by_pq = stage_ranks(part, direction, BUDGET)
    for query, vector in enumerate(queries):
        rows = np.argsort((bits != (vector > 0)).sum(axis=1), kind="stable")
        true = split.image_of_text[query]
        assert by_hash[query] == rows.tolist().index(true)
        kept = np.sort(rows[:first])
        ordered = kept[np.argsort(-(decoded[kept] @ vector), kind="stable")].tolist()
        assert by_pq[query] == (ordered.index(true) if true in ordered else first)


def test_memory_counts_a_byte_of_pq_for_each_of_the_hash_code(
    parts: list[Measured], curves: Curves
) -> None:
    sizes = [(point.n_bits, point.bytes_per_item) for point in curves.fitted]
    assert sizes == [(32, 8), (64, 16), (128, 32), (256, 64)]
    assert (curves.own.n_bits, curves.own.bytes_per_item) == (24, 6)
    evaluation = evaluation_of(parts)
    assert curves.own.rsum == pytest.approx(evaluation.cascade.rsum)
    assert curves.base == pytest.approx(evaluation.base.rsum)


def test_heads_of_the_own_size_give_what_the_evaluation_gives(split: Embedded) -> None:
    config = HeadsConfig(embedding_dim=16, n_bits=64, n_subspaces=8)
    heads = fit_heads(config, split.embeddings, 5)
    part = measure_split(split, heads, StageTwo(), BUDGET, None)
    curves = curves_of([part], BUDGET, split.embeddings, 5)
    fitted = {point.n_bits: point.rsum for point in curves.fitted}
    assert fitted[64] == pytest.approx(curves.own.rsum)


def test_without_matplotlib_all_is_written_but_the_plots(
    parts: list[Measured], curves: Curves, tmp_path: Path
) -> None:
    def absent(_: Curves, __: Path) -> None:
        raise MissingExtraError("plots", "matplotlib", "plots")

    result = evaluation_of(parts)
    with pytest.raises(MissingExtraError, match="matplotlib is needed for plots: pip install"):
        write_report(result, curves, tmp_path, "a title", absent)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["curves.json", "report.json", "report.md"]
    assert (tmp_path / "report.json").read_text() == result.model_dump_json(indent=2) + "\n"
    assert Curves.model_validate_json((tmp_path / "curves.json").read_text()) == curves
    assert (tmp_path / "report.md").read_text().startswith("# a title\n\n## Recalls, percent\n\n|")


def test_a_table_says_what_was_run_and_nothing_else(parts: list[Measured]) -> None:
    result = evaluation_of(parts, draws=20)
    table = text_table(result)
    assert [line.split()[0] for line in table.splitlines()[1:5]] == [
        "base",
        "reference",
        "transductive",
        "inductive",
    ]
    assert "above base" in table
    assert "eccv" not in table
    assert "above base" not in text_table(evaluation_of(parts))
