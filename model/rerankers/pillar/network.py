"""The pillar transformer: tokens of similarities in, refined unit vectors out."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model.rerankers.pillar.config import PillarConfig


class GraphAttention(nn.Module):
    """Self-attention whose weights are the mean of the learned ones and the graph's."""

    def __init__(self, config: PillarConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(
        self, tokens: Float[Tensor, "b n w"], adjacency: Float[Tensor, "b n n"]
    ) -> Float[Tensor, "b n w"]:
        """Mixed tokens; rows of `adjacency` sum to 1."""
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (B, n, 3, H, w/H)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, H, n, w/H) each
        logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        attention = (logits.softmax(dim=-1) + adjacency.unsqueeze(1)) / 2
        mixed: Tensor = self.out((attention.to(value.dtype) @ value).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: PillarConfig) -> None:
        super().__init__()
        hidden = config.mlp_ratio * config.width
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = GraphAttention(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, hidden), nn.GELU(), nn.Linear(hidden, config.width)
        )

    def forward(
        self, tokens: Float[Tensor, "b n w"], adjacency: Float[Tensor, "b n n"]
    ) -> Float[Tensor, "b n w"]:
        """Tokens after attention and MLP."""
        tokens = tokens + self.attention(self.attention_norm(tokens), adjacency)
        changed: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + changed


class PillarNetwork(nn.Module):
    """One direction's network; its weights do not depend on the length of a list."""

    def __init__(self, config: PillarConfig) -> None:
        super().__init__()
        self.inter_norm = nn.LayerNorm(config.pillars)
        self.intra_norm = nn.LayerNorm(config.pillars)
        self.projection = nn.Linear(2 * config.pillars, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))

    def forward(
        self, tokens: Float[Tensor, "b n p"], adjacency: Float[Tensor, "b n n"]
    ) -> Float[Tensor, "b n w"]:
        """Refined unit vectors of lists: the query first, then its candidates."""
        inter, intra = tokens.chunk(2, dim=-1)
        halves = [self.inter_norm(inter), self.intra_norm(intra)]
        refined = self.projection(torch.cat(halves, dim=-1))
        for block in self.blocks:
            refined = block(refined, adjacency)
        return functional.normalize(refined.float(), dim=-1)

    def scores(
        self, tokens: Float[Tensor, "b n p"], adjacency: Float[Tensor, "b n n"]
    ) -> Float[Tensor, "b n"]:
        """Cosines of each refined query with its list; the first is its own, 1."""
        refined = self(tokens, adjacency)
        cosines: Tensor = (refined[:, :1] * refined).sum(dim=-1)
        return cosines
