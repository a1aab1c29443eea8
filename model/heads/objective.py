"""The training objective of Stage I (MEET, TCSVT 2025): hash layers and their codebooks.

The paper names the two losses beside the ranking loss; the released code holds neither in
full, so both are defined here. The ranking loss of the embedding space trains the encoder alone
and the hash layers' input is detached from it, so both halves of the objective may be minimised
one after the other.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model.heads.heads import HeadsConfig, ModalityHead


class HashLayer(nn.Module):
    """One modality's trainable head: embeddings (B, D) to hash-space vectors (B, K)."""

    def __init__(self, config: HeadsConfig, head: ModalityHead) -> None:
        super().__init__()
        self.linear = nn.Linear(config.embedding_dim, config.n_bits)
        self.linear.weight.data.copy_(torch.from_numpy(head.weight))
        self.linear.bias.data.copy_(torch.from_numpy(head.bias))

    def forward(self, embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Hash-space vectors in (-1, 1)."""
        return torch.tanh(self.linear(embeddings))


def discrepancy_loss(
    embeddings: Float[Tensor, "b d"], hash_space: Float[Tensor, "b k"]
) -> Float[Tensor, ""]:
    """L_f: mean squared difference of the cosine matrices of both spaces.

    Rows of both modalities are handed in together, so the matrices hold the similarities
    within and across modalities.
    """
    before = functional.normalize(embeddings, dim=-1)
    after = functional.normalize(hash_space, dim=-1)
    return functional.mse_loss(after @ after.T, before @ before.T)


def straight_through(hash_space: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Signs (B, K) whose gradient is that of the vectors themselves."""
    signs = torch.where(hash_space > 0, 1.0, -1.0)
    return hash_space + (signs - hash_space).detach()


def encoding_loss(
    hash_space: Float[Tensor, "b k"], decoded: Float[Tensor, "b k"]
) -> Float[Tensor, ""]:
    """L_q: mean ‖h - sign(h)‖²/K + mean ‖h - decode(PQ(h))‖²/K.

    Its gradient reaches the codebooks too, where `decoded` hangs on them.
    """
    signs = torch.where(hash_space > 0, 1.0, -1.0)
    return functional.mse_loss(hash_space, signs) + functional.mse_loss(hash_space, decoded)


def nearest_centroids(
    codebooks: Float[Tensor, "m l s"], hash_space: Float[Tensor, "b k"]
) -> Float[Tensor, "b k"]:
    """decode(PQ(h)): every sub-vector replaced by its nearest centroid."""
    parts = hash_space.reshape(len(hash_space), len(codebooks), -1).transpose(0, 1)  # (M, B, S)
    with torch.no_grad():
        # ‖x - c‖² without ‖x‖², which is the same for all centroids
        distances = codebooks.square().sum(dim=2)[:, None] - 2 * parts @ codebooks.mT
        nearest = distances.argmin(dim=2)  # (M, B)
    decoded = codebooks.gather(1, nearest.unsqueeze(-1).expand_as(parts))
    return decoded.transpose(0, 1).flatten(1)
