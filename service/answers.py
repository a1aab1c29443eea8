"""Rankings and items turned into answers."""

from collections.abc import Mapping, Sequence

from fastapi import Response
from pydantic import BaseModel
from pydantic_core import to_json

from model.artifact.items import NO_ROW, Item
from model.cascade import Explanation as Explained
from model.cascade import Ranking
from model.core.types import WAYS, Modality, RowArray, Way
from model.rerankers.ordering import AppliedRerank
from service import offers
from service.engine import SearchEngine
from service.fates import Told
from service.jobs import Found
from service.limits import Limits
from service.metrics import STAGES
from service.queries import Search, StoredQuery
from service.schemas import (
    EncoderAnswer,
    Explanation,
    IndexAnswer,
    ItemAnswer,
)

MOST_DUPLICATES = 32
DIGITS = 6  # of a share that is stored in single precision


def reply(answer: BaseModel | Mapping[str, object]) -> Response:
    """The answer as JSON, a model's without its empty fields; what is not finite becomes null."""
    if isinstance(answer, BaseModel):
        content: str | bytes = answer.model_dump_json(exclude_none=True)
    else:
        content = to_json(answer, inf_nan_mode="null")
    return Response(content, media_type="application/json")


def search_answer(
    search: Search, found: Found, milliseconds: Mapping[str, float]
) -> dict[str, object]:
    """A `SearchAnswer` as plain values, without its empty fields.

    Models of ten hits would take longer to make than the hits to find.
    """
    answer: dict[str, object] = {
        "index_version": found.engine.version,
        "direction": search.direction.value,
        "rerank": found.ranking.rerank.value,
        "degraded": found.degraded,
        "hits": _marked(search, found, hits(found.engine, search.direction, found.ranking)),
        "milliseconds": _by_stage(milliseconds),
    }
    return answer | ({"why_not": why_not(found.why_not)} if search.why_not else {})


def why_not(fates: Sequence[Told]) -> list[dict[str, object]]:
    """`WhyNot`s as plain values, without what stages say that were not reached."""
    told = [
        {"id": one.id, **vars(one.standing), "represented_by": one.represented_by} for one in fates
    ]
    return [{name: value for name, value in one.items() if value is not None} for one in told]


def _marked(search: Search, found: Found, hits: list[dict[str, object]]) -> list[dict[str, object]]:
    """The hits, those marked that belong to the same image as the item that was asked with."""
    asked = search.query
    if isinstance(asked, StoredQuery):
        family = found.engine.family(asked.modality, asked.row, search.direction.candidate)
        for hit, row in zip(hits, found.ranking.rows.tolist(), strict=True):
            if row in family:
                hit["same_image"] = True
    return hits


def timed(answer: Mapping[str, object], spent: Mapping[str, float]) -> dict[str, object]:
    """An answer that was kept, with the milliseconds that it took this time."""
    return {**answer, "milliseconds": _by_stage(spent)}


def _by_stage(milliseconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(milliseconds.get(stage, 0.0), 3) for stage in STAGES}


def hits(engine: SearchEngine, direction: Way, ranking: Ranking) -> list[dict[str, object]]:
    """The ranking's rows as `Hit`s, best first."""
    card, rows, scores = engine.cards[direction.candidate], ranking.rows, ranking.scores
    found = [
        {**card(row), "rank": rank, "score": score}
        for rank, (row, score) in enumerate(
            zip(rows.tolist(), scores.tolist(), strict=True), ranking.offset
        )
    ]
    if ranking.calibrated is not None:
        for hit, share in zip(found, ranking.calibrated.tolist(), strict=True):
            hit["calibrated"] = round(share, DIGITS)
    if ranking.duplicates is not None:
        for hit, others in zip(found, ranking.duplicates, strict=True):
            hit |= _duplicates(engine, direction, others)
    if ranking.explanation is not None:
        for place, hit in enumerate(found):
            hit["explanation"] = explanation(engine, ranking, ranking.explanation, place)
    return found


def _duplicates(engine: SearchEngine, direction: Way, rows: RowArray) -> dict[str, object]:
    """What a hit stands for, best first."""
    items = engine.artifact.side(direction.candidate).items
    shown = [items.id(row) for row in rows[:MOST_DUPLICATES].tolist()]
    return {"duplicates": shown, "n_duplicates": len(rows)}


def explanation(
    engine: SearchEngine, ranking: Ranking, shown: Explained, rank: int
) -> dict[str, object]:
    """What each stage made of one hit: an `Explanation` without its empty fields."""
    has_lists = bool(shown.reverse_rank[rank] >= 0)
    refined = ranking.rerank is AppliedRerank.PILLAR
    expanded = engine.cascade.second.pairs is not None and not refined
    told = Explanation(
        hamming_distance=int(shown.hamming_distance[rank]),
        pq_score=float(shown.pq_score[rank]),
        consistency=float(shown.consistency[rank]),
        reverse_rank=int(shown.reverse_rank[rank]) if has_lists else None,
        complementarity=float(shown.complementarity[rank]) if has_lists or refined else None,
        expansion=float(shown.expansion[rank]) if expanded else None,
        rank_after_hash=int(shown.rank_after_hash[rank]),
        rank_after_pq=int(shown.rank_after_pq[rank]),
        rank_after_rerank=int(shown.rank_after_rerank[rank]),
    )
    return told.model_dump(exclude_none=True)


def item_answer(engine: SearchEngine, item: Item) -> ItemAnswer:
    """One item."""
    side, image_id = engine.artifact.side, None
    if item.partner != NO_ROW:
        image_id = side(Modality.IMAGE).items.id(item.partner)
    told = {
        "modality": item.modality,
        "image_id": image_id,
        "captions": [side(Modality.TEXT).items.id(row) for row in item.caption_rows],
    }
    return ItemAnswer.model_validate({**engine.cards[item.modality](item.row), **told})


def index_answer(engine: SearchEngine, limits: Limits) -> IndexAnswer:
    """What is served, and what may be asked."""
    manifest = engine.artifact.manifest
    return IndexAnswer(
        version=engine.version,
        created=manifest.created,
        encoder=EncoderAnswer.model_validate(manifest.encoder, from_attributes=True),
        counts=manifest.counts,
        accepts={way: engine.accepts(way) for way in WAYS},
        options=offers.options(engine),
        fields=offers.fields(engine),
        rerank=engine.cascade.second.modes,
        default_rerank=engine.cascade.second.default,
        lists=manifest.lists,
        budget=manifest.budget,
        quality=manifest.quality,
        metadata_fields=list(engine.metadata_fields),
        limits=limits,
    )
