"""Training the pillar re-ranker: both directions together, the same for a seed."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from model.core.types import Direction, RowArray
from model.progress import bar
from model.rerankers.pillar.network import PillarNetwork
from model.rerankers.pillar.objective import (
    alignment_loss,
    contrastive_loss,
    floor_loss,
    triplet_loss,
)
from model.rerankers.pillar.reranker import PillarReranker
from model.training.pillar_options import Optimiser, PillarOptions, Precision
from model.training.pillar_pools import Pool, PreparedPool, QueryLists
from model.training.state import RunState

Watch = Callable[[PillarReranker], str]


class Batch(NamedTuple):
    """Queries of one pool, by direction, and the seed of what is drawn for them."""

    pool: PreparedPool
    queries: Mapping[Direction, RowArray]
    seed: tuple[int, ...]


class Scored(NamedTuple):
    """A batch of lists under a network: scores, similarities to the query, and what is true."""

    scores: Tensor  # (B, n)
    similarities: Tensor  # (B, n)
    positive: Tensor  # (B, n)


def train_pillar(
    pools: Sequence[Pool],
    options: PillarOptions,
    trained_on: str = "",
    state: RunState | None = None,
    watch: Watch | None = None,
) -> PillarReranker:
    """A re-ranker for both directions; every query is drawn within its own pool.

    `state` makes the run go on after its last whole epoch; `watch` says something about an
    epoch's re-ranker to show beside the loss.
    """
    config = options.config()
    ready = [PreparedPool.of(pool, config) for pool in bar(pools, desc="neighbours")]
    reranker = PillarReranker.untrained(config, options.seed, trained_on)
    modules = {direction.value: network for direction, network in reranker.networks.items()}
    optimiser = _optimiser(reranker.networks, options)
    first = state.restore(modules, optimiser) if state else 0
    for epoch in range(first, options.epochs):
        loss = _epoch(epoch, reranker.networks, ready, optimiser, options)
        shown = "" if watch is None else f", {watch(reranker)}"
        tqdm.write(f"epoch {epoch + 1}/{options.epochs}: loss {loss:.3f}{shown}")
        if state:
            state.save(epoch, modules, optimiser)
    return reranker


def run_key(pools: Sequence[Pool], options: PillarOptions) -> str:
    """A digest of everything that a run's weights follow from."""
    total = hashlib.sha256(options.model_dump_json().encode())
    for pool in pools:
        total.update(np.ascontiguousarray(pool.split.image_of_text).data)
        for embeddings in (pool.split.embeddings, pool.bank or {}):
            for modality in sorted(embeddings):
                total.update(np.ascontiguousarray(embeddings[modality]).data)
    return total.hexdigest()


def _epoch(
    epoch: int,
    networks: Mapping[Direction, PillarNetwork],
    pools: Sequence[PreparedPool],
    optimiser: torch.optim.Optimizer,
    options: PillarOptions,
) -> float:
    """One pass over the queries of every pool: the mean loss."""
    batches = _batches(pools, options, epoch)
    losses = []
    progress = bar(batches, desc=f"epoch {epoch + 1}/{options.epochs}", leave=False)
    for step, batch in enumerate(progress):
        share = (epoch + step / len(batches)) / options.epochs
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * (1 + math.cos(math.pi * share)) / 2
        loss = batch_loss(networks, batch, options)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return float(np.mean(losses))


def batch_loss(
    networks: Mapping[Direction, PillarNetwork], batch: Batch, options: PillarOptions
) -> Tensor:
    """The weighted losses of one batch, both directions added up."""
    rng = np.random.default_rng(batch.seed)
    parts = [
        _direction_loss(networks, batch.pool, direction, rows, rng, options)
        for direction, rows in batch.queries.items()
    ]
    return torch.stack(parts).sum()


def _direction_loss(
    networks: Mapping[Direction, PillarNetwork],
    pool: PreparedPool,
    direction: Direction,
    rows: RowArray,
    rng: np.random.Generator,
    options: PillarOptions,
) -> Tensor:
    """Losses of a direction's lists and of what they become in the other modality."""
    taken = pool.top(direction, rows)
    own = _scored(networks[direction], pool, direction, taken, options)
    mapped_to = direction.other
    there = pool.mapped(direction, taken, rng)
    mapped = _scored(networks[mapped_to], pool, mapped_to, there, options)
    loss = options.triplet * triplet_loss(own.scores, own.positive)
    for scored in (own, mapped):
        loss = loss + options.contrastive * contrastive_loss(scored.scores, scored.positive)
        loss = loss + options.hinge * floor_loss(scored.scores, scored.similarities)
    return loss + options.alignment * alignment_loss(own.scores, mapped.scores)


def _scored(
    network: PillarNetwork,
    pool: PreparedPool,
    direction: Direction,
    taken: QueryLists,
    options: PillarOptions,
) -> Scored:
    lists = pool.lists(direction, taken)
    network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision is Precision.BFLOAT16):
        scores = network.scores(*lists)
    positive = torch.from_numpy(pool.positive(direction, taken))
    return Scored(scores, lists.tokens[..., 0], positive)


def _batches(pools: Sequence[PreparedPool], options: PillarOptions, epoch: int) -> list[Batch]:
    """One epoch: every query once, batches of one pool each, in random order."""
    rng = np.random.default_rng((options.seed, epoch))
    batches = [
        Batch(pool, queries, (options.seed, epoch, place, part))
        for place, pool in enumerate(pools)
        for part, queries in enumerate(_parts(pool, options.batch_size, rng))
    ]
    return [batches[i] for i in rng.permutation(len(batches))]


def _parts(
    pool: PreparedPool, batch_size: int, rng: np.random.Generator
) -> Iterator[dict[Direction, RowArray]]:
    """A pool's queries in batches of `batch_size` captions with their share of the images."""
    count = max(1, round(pool.queries(Direction.TEXT_TO_IMAGE) / batch_size))
    count = min(count, min(pool.queries(direction) for direction in Direction))
    cut = {d: np.array_split(rng.permutation(pool.queries(d)), count) for d in Direction}
    for part in range(count):
        yield {direction: rows[part] for direction, rows in cut.items()}


def _optimiser(
    networks: Mapping[Direction, PillarNetwork], options: PillarOptions
) -> torch.optim.Optimizer:
    parameters = list(nn.ModuleList(networks.values()).parameters())
    rate, decay = options.learning_rate, options.weight_decay
    match options.optimiser:
        case Optimiser.SGD:
            return torch.optim.SGD(parameters, rate, options.momentum, weight_decay=decay)
        case Optimiser.ADAMW:
            return torch.optim.AdamW(parameters, rate, weight_decay=decay)
        case _:
            assert_never(options.optimiser)
