"""Stage: every shard of a collection through the encoder, done ones skipped."""

import json
from collections.abc import Callable, Iterable, Iterator

from pydantic import JsonValue

from index_builder.build import Progress, Tools
from index_builder.encode import ShardEncoder, routes_of
from index_builder.planning import Work
from index_builder.shards import Rejected, ShardPlan, ShardSummary
from model.artifact.files import replace_file
from model.core.errors import DataFormatError

Job = Callable[[ShardPlan], ShardSummary]
Runner = Callable[[Job, Iterable[ShardPlan]], Iterator[ShardSummary]]

SHOWN = 3


def run_local(job: Job, plans: Iterable[ShardPlan]) -> Iterator[ShardSummary]:
    """Shard after shard, in this process."""
    return map(job, plans)


def encode_all(
    tools: Tools, work: Work, name: str, *, thumbnails: bool, runner: Runner = run_local
) -> list[ShardSummary]:
    """Summaries of all shards, in order, each of them encoded and recorded.

    Raises:
        DataFormatError: more records than allowed could not be read, or none could.
        UnsupportedInputError: the encoder takes nothing that the collection holds.
    """
    allowed = tools.options.allowed_bad(len(work.selection))
    summaries: list[ShardSummary] = []
    with tools.bar(name, work.size, "items") as progress:
        for summary in runner(_job(tools, work, progress, thumbnails=thumbnails), work.plans):
            summaries.append(summary)
            _check_rejected(tools, work, rejected_in(summaries), allowed)
    if not any(one.n_images or one.n_texts for one in summaries):
        raise DataFormatError(f"{work.source.place} holds no readable image and no caption")
    return summaries


def rejected_in(summaries: Iterable[ShardSummary]) -> list[Rejected]:
    """All records that were skipped."""
    return [one for summary in summaries for one in summary.rejected]


def report(work: Work, rejected: Iterable[Rejected]) -> dict[str, JsonValue]:
    """What `report.json` says of one collection."""
    listed: list[JsonValue] = [one.model_dump(mode="json") for one in rejected]
    return {"place": work.source.place, "records": len(work.selection), "skipped": listed}


def _job(tools: Tools, work: Work, progress: Progress, *, thumbnails: bool) -> Job:
    routes = routes_of(work.source, tools.encoder)

    def run(plan: ShardPlan) -> ShardSummary:
        done = tools.shards.summary(plan)
        if done is not None:
            progress.skip(int(plan.selection.with_image.sum() + plan.selection.n_captions.sum()))
            return done
        encode = ShardEncoder(
            work.source, tools.encoder, routes, tools.options.batch_size, thumbnails, progress
        )
        return tools.shards.save(plan, encode(plan.selection))

    return run


def _check_rejected(tools: Tools, work: Work, rejected: list[Rejected], allowed: int) -> None:
    if len(rejected) <= allowed:
        return
    path = tools.shards.directory / "report.json"
    replace_file(path, json.dumps(report(work, rejected), indent=2).encode())
    first = "; ".join(f"{one.source or one.id}: {one.reason}" for one in rejected[:SHOWN])
    raise DataFormatError(
        f"{len(rejected)} records of {work.source.place} cannot be read, at most {allowed} may "
        f"be skipped (--max-bad); all are listed in {path}; the first: {first}"
    )
