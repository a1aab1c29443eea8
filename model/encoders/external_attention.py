"""External attention: one softmax over regions (or words) per embedding dimension.

Source: MEET (TCSVT 2025), base encoder; parity with the released code in
`tests/model/encoders/test_external_attention.py`.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class ResidualProjection(nn.Module):
    """A linear map plus a two-layer MLP on the same input: (n, F) → (n, D)."""

    def __init__(self, in_dim: int, out_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.hidden = nn.Linear(in_dim, out_dim // 2)
        self.norm = nn.BatchNorm1d(out_dim // 2)
        self.out = nn.Linear(out_dim // 2, out_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        """Projected rows; in training the norm runs over all of them."""
        hidden = functional.relu(self.norm(self.hidden(features)))
        projected: Tensor = self.linear(features) + self.out(self.dropout(hidden))
        return projected


class ExternalAttention(nn.Module):
    """Unit embeddings (B, D): Σ_r A ∘ X with A = softmax over r of X·G, per dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.memory = nn.Linear(dim, dim)

    def forward(
        self, rows: Float[Tensor, "n d"], valid: Bool[Tensor, "b r"]
    ) -> Float[Tensor, "b d"]:
        """Embeddings of the samples whose valid places the rows fill, in order."""
        features = rows.new_zeros((*valid.shape, rows.shape[1]))
        features[valid] = rows
        logits = rows.new_full(features.shape, float("-inf"))
        logits[valid] = self.memory(rows)
        pooled = (logits.softmax(dim=1) * features).sum(dim=1)
        return functional.normalize(pooled, dim=-1)
