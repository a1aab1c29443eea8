"""Training the learned re-ranker's networks: which of a list's candidates is a true one.

The loss is the negative log of the probability, under a softmax over the list, that falls on the
true candidates. Half of the candidates are dropped at random in every step, so that a list is
never seen twice.
"""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from model.progress import bar
from model.rerankers.learned.network import MASKED, ListNetwork
from model.training.learned_lists import TermLists
from model.training.learned_options import LearnedOptions

SCORED_AT_ONCE = 1024
WARM_UP = 100  # steps


def train_network(lists: TermLists, options: LearnedOptions, label: str = "") -> ListNetwork:
    """The network of some lists, averaged over its last steps; the same for a seed."""
    lists = lists[lists.true.any(dim=1)]  # the others teach nothing
    torch.manual_seed(options.seed)
    network = ListNetwork(options.config, options.dropout)
    network.standardise(lists.terms, lists.live)
    averaged = copy.deepcopy(network)
    rate, decay = options.learning_rate, options.weight_decay
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    batches = _batches(len(lists.true), options)
    for step, rows in enumerate(bar(batches, desc=label, total=options.steps, leave=False)):
        for group in optimiser.param_groups:
            group["lr"] = rate * _schedule(step, options.steps)
        loss = _loss(network, lists[rows], options.dropped_candidates)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        _average(averaged, network, options.averaging)
    return averaged.eval()


def scored(network: ListNetwork, lists: TermLists) -> Tensor:
    """Scores (Q, L) of lists."""
    with torch.inference_mode():
        starts = range(0, len(lists.terms), SCORED_AT_ONCE)
        parts = [lists[start : start + SCORED_AT_ONCE] for start in starts]
        return torch.cat([network(part.terms, part.live) for part in parts])


def _loss(network: ListNetwork, lists: TermLists, dropped: float) -> Tensor:
    """The mean loss of lists of which a share is dropped; a true one always stays."""
    kept = lists.live & (torch.rand(lists.live.shape) >= dropped)
    saved = ~(kept & lists.true).any(dim=1, keepdim=True) & lists.true
    kept = kept | saved
    scores = network(lists.terms, kept)
    true = scores.masked_fill(~(lists.true & kept), MASKED)
    loss: Tensor = (scores.logsumexp(dim=1) - true.logsumexp(dim=1)).mean()
    return loss


def _batches(count: int, options: LearnedOptions) -> Iterator[Tensor]:
    """Rows of one step after another: every list once before any comes again."""
    size = min(options.batch_size, count)
    order, at = torch.randperm(count), 0
    for _ in range(options.steps):
        if at + size > count:
            order, at = torch.randperm(count), 0
        yield order[at : at + size]
        at += size


def _schedule(step: int, steps: int) -> float:
    """The learning rate's factor: linear up, and a cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2


def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    with torch.no_grad():
        pairs = zip(averaged.parameters(), network.parameters(), strict=True)
        for old, new in pairs:
            old.lerp_(new, 1 - decay)
