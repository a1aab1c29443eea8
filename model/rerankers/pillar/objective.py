"""The four losses of LeaPRR, as its released code takes them; all are means over the batch.

Scores are cosines of refined vectors, (B, n) with the query's own token first; `positive`, of the
same shape, is true for the query's own token and for its true matches.
"""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

CONTRASTIVE_TEMPERATURE = 2.0
MARGIN = 0.2

Scores = Float[Tensor, "b n"]
Flags = Bool[Tensor, "b n"]
Loss = Float[Tensor, ""]


def contrastive_loss(scores: Scores, positive: Flags) -> Loss:
    """-log(Σ positives / Σ all) of exp(score / 2)."""
    logits = scores / CONTRASTIVE_TEMPERATURE
    matching = logits.masked_fill(~positive, float("-inf"))
    return (logits.logsumexp(dim=1) - matching.logsumexp(dim=1)).mean()


def triplet_loss(scores: Scores, positive: Flags) -> Loss:
    """Σ over negatives of max(0, margin + score - the lowest positive's score)."""
    lowest = scores.masked_fill(~positive, float("inf")).amin(dim=1, keepdim=True)
    short = (MARGIN + scores - lowest).clamp(min=0).masked_fill(positive, 0.0)
    return short.sum(dim=1).mean()


def floor_loss(scores: Scores, similarities: Scores) -> Loss:
    """The hinge Σ max(0, lowest original - score): refined scores stay above the old floor.

    `similarities` are the list's own ones to the query, column 0 of its tokens.
    """
    floor = similarities.amin(dim=1, keepdim=True)
    return (floor - scores).clamp(min=0).sum(dim=1).mean()


def alignment_loss(scores: Scores, mapped: Scores) -> Loss:
    """KL(scores ‖ mapped) of the softmax over a list: both directions see one structure."""
    target, found = scores.log_softmax(dim=1), mapped.log_softmax(dim=1)
    loss: Tensor = functional.kl_div(found, target, reduction="batchmean", log_target=True)
    return loss
