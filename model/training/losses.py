"""The ranking loss over a batch of matching pairs."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def contrastive_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    image_ids: Int[Tensor, " b"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """InfoNCE in both directions, pair i on the diagonal, unit rows.

    Captions of one image are never negatives of each other: such entries are left out.
    """
    logits = scale * images @ texts.T
    same = image_ids[:, None] == image_ids[None, :]
    same.fill_diagonal_(fill_value=False)
    logits = logits.masked_fill(same, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    forward = functional.cross_entropy(logits, target)
    return (forward + functional.cross_entropy(logits.T, target)) / 2
