"""Training the heads on frozen embeddings: the full Stage I objective.

The released code detaches the hash layers' input from the encoder; on embeddings that stand
still the same objective is reached in seconds.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from model.ann.faiss_door import kmeans
from model.core.types import FloatArray, Modality, RowArray
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig, ModalityHead
from model.heads.objective import (
    HashLayer,
    discrepancy_loss,
    encoding_loss,
    nearest_centroids,
)
from model.training.losses import contrastive_loss
from model.training.options import HeadsOptions


def train_heads(
    embeddings: Mapping[Modality, FloatArray],
    image_of_text: RowArray,
    options: HeadsOptions,
    watch: Callable[[Heads], float] | None = None,
) -> Heads:
    """Heads for unit embeddings of images (N, D) and their captions (T, D).

    They start from the fitted ones (PCA and a rotation); codebooks are learned anew after
    every epoch. `watch` gives an epoch's heads a figure to show beside the loss.
    """
    config = options.config(embeddings[Modality.IMAGE].shape[1])
    start = fit_heads(config, embeddings, options.seed)
    torch.manual_seed(options.seed)
    layers = {m: HashLayer(config, start.heads[m]) for m in Modality}
    parameters = [p for layer in layers.values() for p in layer.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate)
    data = {m: torch.from_numpy(embeddings[m]) for m in Modality}
    books = {m: torch.from_numpy(start.heads[m].codebooks) for m in Modality}
    for epoch in range(options.epochs):
        losses = []
        rng = np.random.default_rng((options.seed, epoch))
        order = rng.permutation(len(image_of_text))
        label = f"heads {epoch + 1}/{options.epochs}"
        for i in tqdm(range(0, len(order), options.batch_size), desc=label, leave=False):
            loss = _loss(
                layers, books, data, image_of_text, order[i : i + options.batch_size], options
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        books = {m: _codebooks(layers[m], data[m], config, options.seed) for m in Modality}
        heads = Heads(config, {m: _head(layers[m], books[m]) for m in Modality})
        shown = "" if watch is None else f", dev rSum in the hash space {watch(heads):.1f}"
        tqdm.write(f"{label}: loss {np.mean(losses):.3f}{shown}")
    return heads


def _loss(
    layers: Mapping[Modality, HashLayer],
    books: Mapping[Modality, Tensor],
    data: Mapping[Modality, Tensor],
    image_of_text: RowArray,
    rows: RowArray,
    options: HeadsOptions,
) -> Tensor:
    """Ranking + β1·L_f + β2·L_q over one batch of captions and their images."""
    owners = torch.from_numpy(image_of_text[rows])
    batch = {Modality.IMAGE: data[Modality.IMAGE][owners], Modality.TEXT: data[Modality.TEXT][rows]}
    hashed = {m: layers[m](batch[m]) for m in Modality}
    unit = {m: functional.normalize(hashed[m], dim=-1) for m in Modality}
    scale = torch.tensor(1 / options.temperature)
    ranking = contrastive_loss(unit[Modality.IMAGE], unit[Modality.TEXT], owners, scale)
    preserved = discrepancy_loss(
        torch.cat([batch[m] for m in Modality]), torch.cat([hashed[m] for m in Modality])
    )
    encoded = sum(
        encoding_loss(hashed[m], nearest_centroids(books[m], hashed[m].detach())) for m in Modality
    )
    return ranking + options.beta_1 * preserved + options.beta_2 * encoded


def _codebooks(layer: HashLayer, data: Tensor, config: HeadsConfig, seed: int) -> Tensor:
    """Codebooks (M, L, S) by k-means over the modality's hash space."""
    with torch.inference_mode():
        parts = layer(data).unflatten(1, (config.n_subspaces, -1)).numpy()  # (N, M, S)
    books = [kmeans(parts[:, m], config.n_centroids, seed) for m in range(config.n_subspaces)]
    return torch.from_numpy(np.stack(books))


def _head(layer: HashLayer, books: Tensor) -> ModalityHead:
    weight, bias = layer.linear.weight, layer.linear.bias
    return ModalityHead(weight.detach().numpy(), bias.detach().numpy(), books.numpy())
