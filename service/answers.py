"""Rankings and items turned into answers."""

from urllib.parse import quote

from fastapi import Response
from pydantic import BaseModel

from model.artifact.items import Item
from model.cascade import Ranking
from model.core.types import Direction, Modality
from model.rerankers.ordering import AppliedRerank
from service.engine import SearchEngine
from service.jobs import Found
from service.metrics import STAGES
from service.schemas import (
    EncoderAnswer,
    Explanation,
    Hit,
    IndexAnswer,
    ItemAnswer,
    SearchAnswer,
)
from service.settings import Limits


def reply(answer: BaseModel) -> Response:
    """The answer as JSON without its empty fields; what is not finite is written as null."""
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


def search_answer(direction: Direction, found: Found, spent: dict[str, float]) -> SearchAnswer:
    """The answer to one search; `spent` holds the milliseconds outside the device's thread."""
    engine, milliseconds = found.engine, {**found.milliseconds, **spent}
    return SearchAnswer(
        index_version=engine.version,
        direction=direction,
        rerank=found.ranking.rerank,
        degraded=list(found.degraded),
        hits=hits(engine, direction, found.ranking),
        milliseconds={stage: round(milliseconds.get(stage, 0.0), 3) for stage in STAGES},
    )


def hits(engine: SearchEngine, direction: Direction, ranking: Ranking) -> list[Hit]:
    """The ranking's rows as hits, best first."""
    found = []
    for rank, (row, score) in enumerate(zip(ranking.rows, ranking.scores, strict=True)):
        item = engine.artifact.item(direction.candidate, int(row))
        found.append(
            Hit(
                id=item.id,
                rank=rank,
                score=float(score),
                caption=item.caption,
                image=image_link(engine, item),
                metadata=dict(item.metadata),
                explanation=explanation(engine, ranking, rank),
            )
        )
    return found


def explanation(engine: SearchEngine, ranking: Ranking, rank: int) -> Explanation | None:
    """What each stage made of one hit, None where nobody asked."""
    shown = ranking.explanation
    if shown is None:
        return None
    has_lists = bool(shown.reverse_rank[rank] >= 0)
    refined = ranking.rerank is AppliedRerank.PILLAR
    expanded = engine.cascade.second.pairs is not None and not refined
    return Explanation(
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


def item_answer(engine: SearchEngine, item: Item) -> ItemAnswer:
    """One item."""
    image = image_of(engine, item)
    return ItemAnswer(
        id=item.id,
        modality=item.modality,
        caption=item.caption,
        image_id=image.id if image is not None and image is not item else None,
        image=image_link(engine, item),
        captions=[engine.artifact.item(Modality.TEXT, row).id for row in item.caption_rows],
        metadata=dict(item.metadata),
    )


def image_of(engine: SearchEngine, item: Item) -> Item | None:
    """The image itself, or the one that a caption describes."""
    if item.modality is Modality.IMAGE:
        return item
    return engine.artifact.item(Modality.IMAGE, item.partner) if item.partner >= 0 else None


def image_link(engine: SearchEngine, item: Item) -> str | None:
    """Path of the item's picture; None where there is none to show."""
    image = image_of(engine, item)
    if image is None or (image.image is None and engine.artifact.thumbnails is None):
        return None
    return f"/items/{quote(image.id, safe='')}/image"


def index_answer(engine: SearchEngine, limits: Limits) -> IndexAnswer:
    """What is served, and what may be asked."""
    manifest = engine.artifact.manifest
    return IndexAnswer(
        version=engine.version,
        created=manifest.created,
        encoder=EncoderAnswer.model_validate(manifest.encoder, from_attributes=True),
        counts=manifest.counts,
        accepts={direction: engine.accepts(direction) for direction in Direction},
        rerank=engine.cascade.second.modes,
        default_rerank=engine.cascade.second.default,
        lists=manifest.lists,
        budget=manifest.budget,
        quality=manifest.quality,
        limits=limits,
    )
