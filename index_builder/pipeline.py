"""A build from end to end: plan, encode, place, bank, heads, codes, lists, measure, publish."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from index_builder.banking import gallery_bank, given_bank, write_bank, write_lists
from index_builder.build import Bank, Clock, Tools
from index_builder.contexts import take_learned, write_contexts
from index_builder.encoding import encode_all, rejected_in, report
from index_builder.heading import BuiltHeads, take_heads, write_codes
from index_builder.neighbouring import take_pillar, write_pillar
from index_builder.options import BuildOptions
from index_builder.placing import Contents, place_items
from index_builder.planning import Plan
from index_builder.quality import measure
from index_builder.shards import Rejected, ShardStore
from index_builder.snapshot import keep_snapshot
from model.artifact.manifest import BankInfo, LearnedInfo, ListsKind, Manifest, PillarInfo
from model.artifact.reader import open_version
from model.artifact.store import VersionStore
from model.artifact.writer import ArtifactWriter
from model.checkpoint import Checkpoint, open_checkpoint
from model.core.types import CandidateBudget, Modality
from model.encoders.opening import vectors_only
from model.encoders.protocols import EncoderKind
from model.rerankers.weights import StageTwo


@dataclass(frozen=True)
class Made:
    """What the stages made, for the manifest to tell."""

    contents: Contents
    rejected: list[Rejected]
    bank: Bank
    heads: BuiltHeads
    lists: ListsKind
    pillar: PillarInfo | None
    learned: LearnedInfo | None


def build_version(plan: Plan, store: VersionStore, *, show_progress: bool = True) -> Manifest:
    """The manifest of a new version, made from the plan and published.

    Raises:
        InputError: the gallery, the bank or the encoder breaks a rule.
        ArtifactError: another process is writing to the same index.
    """
    clock, checkpoint = Clock(), _open_checkpoint(plan)
    version = _version_name(plan)
    with ArtifactWriter(store, version, plan.gallery.source.root) as writer:
        shards = ShardStore(store.layout.work)
        tools = Tools(plan.options, checkpoint, shards, writer, show_progress)
        made = _run_stages(tools, plan, clock)
        with clock.stage("snapshot"):
            keep_snapshot(plan.options.encoder, checkpoint.encoder.identity, store)
        manifest = _manifest(version, plan, tools, made)
        with clock.stage("quality"):
            opened = open_version(store.layout, writer.layout, manifest)
            quality = measure(opened, seed=plan.options.seed)
        told = {"quality": quality, "seconds": dict(clock.seconds)}
        manifest = manifest.model_copy(update=told)
        writer.publish(manifest, plan.options.keep_versions)
    shutil.rmtree(store.layout.work, ignore_errors=True)
    return manifest


def _run_stages(tools: Tools, plan: Plan, clock: Clock) -> Made:
    # What is wrong with a re-ranker is said before the encoder runs.
    reranker, learned = take_pillar(plan.options), take_learned(plan.options)
    with clock.stage("encode"):
        summaries = encode_all(tools, plan.gallery, "gallery", thumbnails=plan.options.thumbnails)
        rejected = rejected_in(summaries)
    with clock.stage("items"):
        contents = place_items(tools, plan.gallery, summaries)
    with clock.stage("bank"):
        bank, bank_report = _bank(tools, plan, contents)
        write_bank(tools, bank)
    tools.writer.report({"gallery": report(plan.gallery, rejected), "bank": bank_report})
    with clock.stage("heads"):
        heads = take_heads(tools, bank, contents.counts)
    with clock.stage("codes"):
        write_codes(tools, heads.heads, contents.counts)
    with clock.stage("lists"):
        lists = write_lists(tools, bank, contents.counts)
    with clock.stage("neighbours"):
        pillar = write_pillar(tools, reranker, bank, contents.counts)
    with clock.stage("contexts"):
        context = write_contexts(tools, learned, heads.heads, bank, contents.counts)
    return Made(contents, rejected, bank, heads, lists, pillar, context)


def _bank(tools: Tools, plan: Plan, contents: Contents) -> tuple[Bank, JsonValue]:
    """The bank, and where one is given, what of it could not be read."""
    if plan.bank is None:
        return gallery_bank(tools, contents.placed, contents.counts), None
    summaries = encode_all(tools, plan.bank, "bank", thumbnails=False)
    return given_bank(tools, plan.bank), report(plan.bank, rejected_in(summaries))


def _open_checkpoint(plan: Plan) -> Checkpoint:
    """The encoder and what was trained on it; a gallery of vectors says its width itself."""
    checkpoint = open_checkpoint(plan.options.encoder, plan.options.device)
    given = plan.gallery.source.collection.embeddings
    if checkpoint.encoder.identity.kind is not EncoderKind.NONE or not given:
        return checkpoint
    width = next(iter(given.values())).shape[1]
    return Checkpoint(vectors_only(width), checkpoint.heads, checkpoint.stage_two)


def _version_name(plan: Plan) -> str:
    """Names sort by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{plan.key[:8]}"


def _manifest(version: str, plan: Plan, tools: Tools, made: Made) -> Manifest:
    options, heads = plan.options, made.heads.heads
    return Manifest(
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        build_key=plan.key,
        gallery=str(plan.gallery.source.root),
        layout=plan.gallery.source.collection.layout.value,
        encoder=tools.encoder.identity,
        heads=heads.config,
        heads_digest=heads.digest,
        heads_source=made.heads.source,
        counts=made.contents.counts,
        skipped=len(made.rejected),
        thumbnails=made.contents.has_thumbnails,
        bank=_bank_info(made.bank, options),
        lists=made.lists,
        pillar=made.pillar,
        learned=made.learned,
        budget=CandidateBudget(),
        stage_two=tools.checkpoint.stage_two or StageTwo(),
        options={"gallery": options.gallery, "encoder": options.encoder, **options.shaping()},
        quality={},
        seconds={},
    )


def _bank_info(bank: Bank, options: BuildOptions) -> BankInfo:
    sizes: dict[Modality, int] = {m: len(one) for m, one in bank.embeddings.items()}
    return BankInfo(source=bank.source, sizes=sizes, seed=options.seed, z=options.z)
