"""The trainable heads: a hash layer for each modality, and codebooks that may be shared."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.core.types import FloatArray, Modality
from model.heads.fitting import fit_codebooks
from model.heads.heads import Heads, ModalityHead
from model.heads.objective import (
    HashLayer,
    discrepancy_loss,
    encoding_loss,
    nearest_centroids,
    straight_through,
)
from model.training.losses import contrastive_loss
from model.training.options import CodebookLearning, HeadsOptions

Batch = Mapping[Modality, Tensor]


class HashModel(nn.Module):
    """Heads as they are trained; with shared codebooks both modalities hold the same array."""

    def __init__(self, start: Heads, options: HeadsOptions) -> None:
        super().__init__()
        self.config, self.options = start.config, options
        layers = {m.value: HashLayer(start.config, start.heads[m]) for m in Modality}
        self.layers = nn.ModuleDict(layers)
        refined = options.codebooks is CodebookLearning.GRADIENT
        own = {
            m: nn.Parameter(torch.from_numpy(start.heads[m].codebooks.copy()), refined)
            for m in Modality
        }
        kept = {m: own[Modality.IMAGE if options.shared_codebooks else m] for m in Modality}
        self.codebooks = nn.ParameterDict({m.value: kept[m] for m in Modality})  # (M, L, S) each

    def hash_space(self, modality: Modality, embeddings: Tensor) -> Tensor:
        """Vectors (B, K) of embeddings (B, D)."""
        vectors: Tensor = self.layers[modality.value](embeddings)
        return vectors

    def loss(self, batch: Batch, owners: Tensor) -> Tensor:
        """Rankings + β1·L_f + β2·L_q of captions (B, D) beside their images (B, D)."""
        options = self.options
        hashed = {m: self.hash_space(m, batch[m]) for m in Modality}
        total = options.ranking * self._ranking(hashed, owners)
        if options.sign_ranking > 0:
            signs = {m: straight_through(hashed[m]) for m in Modality}
            total = total + options.sign_ranking * self._ranking(signs, owners)
        if options.beta_1 > 0:
            both = (torch.cat([rows[m] for m in Modality]) for rows in (batch, hashed))
            total = total + options.beta_1 * discrepancy_loss(*both)
        if options.beta_2 > 0:
            total = total + options.beta_2 * sum(self._encoding(m, hashed[m]) for m in Modality)
        return total

    def learn_codebooks(self, data: Batch, *, sample: int | None = None) -> None:
        """Set codebooks to the k-means of what the layers make of all rows, or of a sample."""
        rng = np.random.default_rng(self.options.seed)
        spaces = {m: self._space(m, data[m], sample, rng) for m in Modality}
        config, seed = self.config, self.options.seed
        if self.options.shared_codebooks:
            books = fit_codebooks(config, _balanced(spaces, rng), seed)
            self._set(dict.fromkeys(Modality, books))
        else:
            self._set({m: fit_codebooks(config, spaces[m], seed) for m in Modality})

    def heads(self) -> Heads:
        """The heads as they are now."""
        return Heads(self.config, {m: self._head(m) for m in Modality})

    def _ranking(self, vectors: Batch, owners: Tensor) -> Tensor:
        images, texts = (functional.normalize(vectors[m], dim=-1) for m in Modality)
        scale = torch.tensor(1 / self.options.temperature)
        return contrastive_loss(images, texts, owners, scale)

    def _encoding(self, modality: Modality, hashed: Tensor) -> Tensor:
        decoded = nearest_centroids(self.codebooks[modality.value], hashed.detach())
        return encoding_loss(hashed, decoded)

    def _space(
        self, modality: Modality, data: Tensor, sample: int | None, rng: np.random.Generator
    ) -> FloatArray:
        if sample is not None and sample < len(data):
            data = data[torch.from_numpy(rng.choice(len(data), sample, replace=False))]
        with torch.no_grad():
            return np.asarray(self.hash_space(modality, data).numpy())

    def _set(self, books: Mapping[Modality, FloatArray]) -> None:
        with torch.no_grad():
            for modality, book in books.items():
                self.codebooks[modality.value].copy_(torch.from_numpy(book))

    def _head(self, modality: Modality) -> ModalityHead:
        layer: dict[str, Tensor] = self.layers[modality.value].state_dict()
        parts = (layer["linear.weight"], layer["linear.bias"], self.codebooks[modality.value])
        return ModalityHead(*(part.detach().numpy().copy() for part in parts))


def _balanced(spaces: Mapping[Modality, FloatArray], rng: np.random.Generator) -> FloatArray:
    """As many vectors of either modality: captions outnumber images."""
    count = min(len(space) for space in spaces.values())
    drawn = [space[rng.choice(len(space), count, replace=False)] for space in spaces.values()]
    return np.concatenate(drawn)
