"""Training the heads on frozen embeddings: the full Stage I objective.

The released code detaches the hash layers' input from the encoder; on embeddings that stand
still the same objective is reached in seconds.
"""

import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.core.types import FloatArray, Modality, RowArray
from model.heads.fitting import fit_heads
from model.heads.heads import Heads
from model.progress import bar
from model.training.hash_model import Batch, HashModel
from model.training.options import CodebookLearning, HeadsOptions

# Codebooks that steer an epoch need not see every vector; the final ones do.
STEERING_ROWS = 8192


def train_heads(
    embeddings: Mapping[Modality, FloatArray],
    image_of_text: RowArray,
    options: HeadsOptions,
    watch: Callable[[Heads], float] | None = None,
) -> Heads:
    """Heads for unit embeddings of images (N, D) and their captions (T, D).

    They start from the fitted ones (PCA and a rotation). `watch` gives an epoch's heads a figure
    to show beside the loss.
    """
    config = options.config(embeddings[Modality.IMAGE].shape[1])
    torch.manual_seed(options.seed)
    model = HashModel(fit_heads(config, embeddings, options.seed), options)
    data = {m: torch.from_numpy(embeddings[m]) for m in Modality}
    refined = options.codebooks is CodebookLearning.GRADIENT and options.beta_2 > 0
    for epoch, losses in enumerate(_epochs(model, data, image_of_text, refined=refined)):
        shown = "" if watch is None else f", dev rSum in the hash space {watch(model.heads()):.1f}"
        said = f"heads {epoch + 1}/{options.epochs}: loss {np.mean(losses):.3f}{shown}"
        tqdm.write(said, file=sys.stderr)  # stdout is a command's answer
    if not refined:
        model.learn_codebooks(data)
    return model.heads()


def _epochs(
    model: HashModel, data: Batch, image_of_text: RowArray, *, refined: bool
) -> Iterator[list[float]]:
    """Train, an epoch's losses at a time; the learning rate falls to 0 along a cosine."""
    options = model.options
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=options.learning_rate)
    steps = options.epochs * -(-len(image_of_text) // options.batch_size)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(options.epochs):
        if options.beta_2 > 0 and (epoch == 0 or not refined):
            model.learn_codebooks(data, sample=STEERING_ROWS)
        order = np.random.default_rng((options.seed, epoch)).permutation(len(image_of_text))
        losses = []
        for i in bar(range(0, len(order), options.batch_size), desc="heads", leave=False):
            losses.append(_step(model, data, image_of_text, order[i : i + options.batch_size]))
            optimiser.step()
            optimiser.zero_grad()
            falling.step()
        yield losses


def _step(model: HashModel, data: Batch, image_of_text: RowArray, rows: RowArray) -> float:
    """The loss of some captions beside their images; gradients are left on the parameters."""
    owners = torch.from_numpy(image_of_text[rows])
    batch: dict[Modality, Tensor] = {
        Modality.IMAGE: data[Modality.IMAGE][owners],
        Modality.TEXT: data[Modality.TEXT][torch.from_numpy(rows)],
    }
    loss = model.loss(batch, owners)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())
