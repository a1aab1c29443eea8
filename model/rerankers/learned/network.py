"""The network of one direction: a linear map over the terms, and beside it a small MLP."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from model.core.types import Frozen
from model.rerankers.learned.terms import N_TERMS, N_VARYING

Count = Annotated[int, Field(ge=1)]
CLIP = 5.0  # standard deviations: what lies beyond is treated alike by the MLP
PLACE_MEAN = 3.0  # of log(1 + place) in a list of about sixty
MASKED = -1e9


class LearnedConfig(Frozen):
    """The width of the MLP, and how many candidates a list has at most."""

    width: Count = 64
    candidates: Annotated[int, Field(ge=2)] = 64


class ListNetwork(nn.Module):
    """Scores a list's candidates from their terms, relative to each other.

    Terms that differ within a list are centred there, so that galleries and encoders whose
    cosines lie elsewhere are seen alike; all are scaled as they were spread in training.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, config: LearnedConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(N_TERMS))
        self.register_buffer("spread", torch.ones(N_TERMS))
        self.linear = nn.Linear(N_TERMS, 1, bias=False)
        self.hidden = nn.Sequential(
            nn.Linear(N_TERMS + 1, config.width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Linear(config.width, 1),
        )
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.hidden[-1].weight)  # type: ignore[arg-type]

    def forward(
        self, terms: Float[Tensor, "lists candidates terms"], live: Bool[Tensor, "lists candidates"]
    ) -> Float[Tensor, "lists candidates"]:
        """Scores, higher = better, of lists in their order; what is not live is far below."""
        scaled = (centred(terms, live) - self.mean) / self.spread
        place = torch.log1p(live.long().cumsum(dim=1) - live.long()) - PLACE_MEAN
        shown = torch.cat([scaled.clamp(-CLIP, CLIP), place[..., None]], dim=-1)
        scores: Tensor = (self.linear(scaled) + self.hidden(shown)).squeeze(-1)
        return scores.masked_fill(~live, MASKED)

    def standardise(
        self, terms: Float[Tensor, "lists candidates terms"], live: Bool[Tensor, "lists candidates"]
    ) -> None:
        """Take mean and spread of the live candidates of some lists."""
        values = centred(terms, live)[live]
        self.mean.copy_(values.mean(dim=0))
        self.spread.copy_(values.std(dim=0).clamp_min(1e-6))


def centred(
    terms: Float[Tensor, "lists candidates terms"], live: Bool[Tensor, "lists candidates"]
) -> Float[Tensor, "lists candidates terms"]:
    """Terms less their mean over a list's live candidates, except those that a list shares."""
    weights = live.to(terms.dtype)[..., None]
    counts = weights.sum(dim=1, keepdim=True).clamp_min(1)
    mean = (terms * weights).sum(dim=1, keepdim=True) / counts
    mean[..., N_VARYING:] = 0
    return terms - mean
