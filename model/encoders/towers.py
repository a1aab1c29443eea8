"""The VSE's trainable parts: one attentive tower per modality, and a BiGRU over words."""

from enum import StrEnum
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.core.types import Frozen
from model.encoders.external_attention import ExternalAttention, ResidualProjection
from model.encoders.vocabulary import PAD


class TextTowerKind(StrEnum):
    """Where word features come from."""

    BIGRU = "bigru"
    TRANSFORMER = "transformer"


class RowProjection(StrEnum):
    """How a tower maps its rows to D dimensions before it attends over them."""

    RESIDUAL = "residual"  # a linear map plus a two-layer MLP
    LINEAR = "linear"
    NONE = "none"  # rows have D dimensions already


class VSEConfig(Frozen):
    """Shapes and regularisation of a VSE.

    `word_dim` is the width of the word features that the text tower attends over: a
    transformer's hidden width, or a BiGRU's and its word embeddings' together. `views` is how
    many sets of regions an image gives: 2 where its mirror image counts too.

    Dropout: `region_dropout` and `word_dropout` take a feature away from all regions or words of
    a sample at once, `hidden_dropout` acts inside the projections, `drop_rows` on whole regions
    and words (a fifth in the paper). Regions are reduced to `region_components` principal
    components, where given.

    The papers' own text towers have no MLP, and their BiGRU may have several layers and no word
    embeddings beside its states (`words_beside`).
    """

    region_dim: int
    word_dim: int
    text: TextTowerKind
    embedding_dim: int = 512
    vocabulary_size: int = 0
    word_embedding_dim: int = 300
    max_words: int = 40
    grid: int | None = None
    views: int = 1
    region_components: int | None = None
    region_dropout: float = 0.2
    word_dropout: float = 0.2
    hidden_dropout: float = 0.2
    drop_rows: float = 0.2
    text_projection: RowProjection = RowProjection.RESIDUAL
    words_beside: bool = True
    gru_layers: int = 1

    @model_validator(mode="after")
    def _fits(self) -> "VSEConfig":
        plain = self.text_projection is RowProjection.NONE
        if plain and self.word_dim != self.embedding_dim:
            raise ValueError(
                f"words that are not projected need D={self.embedding_dim}, got {self.word_dim}"
            )
        return self


class AttentiveTower(nn.Module):
    """Standardised rows (B, R, F) to unit embeddings (B, D) by external attention."""

    mean: Tensor
    scale: Tensor
    basis: Tensor | None

    def __init__(
        self,
        in_dim: int,
        config: VSEConfig,
        dropout: float,
        n_components: int | None = None,
        projection: RowProjection = RowProjection.RESIDUAL,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("scale", torch.ones(()))
        basis = None if n_components is None else torch.eye(in_dim)[:, :n_components].contiguous()
        self.register_buffer("basis", basis)  # (F, P)
        self.dropout = dropout
        self.projection = _projection(projection, n_components or in_dim, config)
        self.attention = ExternalAttention(config.embedding_dim)
        self.drop_rows = config.drop_rows
        # Attention starts as the mean over rows, which small data sets cannot overfit.
        nn.init.zeros_(self.attention.memory.weight)
        nn.init.zeros_(self.attention.memory.bias)

    def standardise(self, rows: Float[Tensor, "n f"]) -> None:
        """Centre features on the mean of these rows and scale them by their joint deviation.

        A tower with a basis learns it first: the rows' principal directions.
        """
        self.mean.copy_(rows.mean(dim=0))
        if self.basis is not None:
            centred = (rows - self.mean).double()
            directions = torch.linalg.eigh(centred.T @ centred).eigenvectors  # ascending
            self.basis.copy_(directions.flip(1)[:, : self.basis.shape[1]])
        self.scale.copy_(self._reduced(rows).std().clamp_min(1e-6))

    def forward(
        self, rows: Float[Tensor, "b r f"], valid: Bool[Tensor, "b r"]
    ) -> Float[Tensor, "b d"]:
        """Unit embeddings of the valid rows."""
        if self.training and self.drop_rows > 0:
            valid = _drop(valid, self.drop_rows)
        # Padding costs nothing: only valid rows are projected.
        standard = self._reduced(rows[valid]) / self.scale  # (n, F or P)
        if self.training and self.dropout > 0:
            standard = standard * _kept_features(valid, standard.shape[1], self.dropout)
        embedding: Tensor = self.attention(self.projection(standard), valid)
        return embedding

    def _reduced(self, rows: Float[Tensor, "n f"]) -> Float[Tensor, "n p"]:
        """Centred rows, in the basis where there is one."""
        centred = rows - self.mean
        return centred if self.basis is None else centred @ self.basis


class WordGRU(nn.Module):
    """Word ids (B, R) to word features (B, R, W): a BiGRU beside the word embeddings.

    Both directions are averaged. The embeddings of the words themselves stand next to them, unless
    the config says otherwise: on small data sets a bag of words is hard to beat, so the tower sees
    one too.
    """

    def __init__(self, config: VSEConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.vocabulary_size, config.word_embedding_dim, PAD)
        self.dropout = nn.Dropout(config.word_dropout)
        self.words_beside = config.words_beside
        beside = config.word_embedding_dim if config.words_beside else 0
        self.gru_dim = config.word_dim - beside
        self.gru = nn.GRU(
            config.word_embedding_dim,
            self.gru_dim,
            config.gru_layers,
            batch_first=True,
            bidirectional=True,
        )

    def forward(
        self, ids: Int[Tensor, "b r"], valid: Bool[Tensor, "b r"]
    ) -> Float[Tensor, "b r w"]:
        """Features of every valid word; the others are zero."""
        words = self.dropout(self.embed(ids))
        packed = pack_padded_sequence(
            words,
            valid.sum(dim=1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        hidden, _ = pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        states = (hidden[..., : self.gru_dim] + hidden[..., self.gru_dim :]) / 2
        if not self.words_beside:
            return states
        return torch.cat([states, words * valid.unsqueeze(-1)], dim=-1)


class VSE(nn.Module):
    """Both towers; `words` is there where a BiGRU makes the word features."""

    def __init__(self, config: VSEConfig) -> None:
        super().__init__()
        self.config = config
        self.image = AttentiveTower(
            config.region_dim, config, config.region_dropout, config.region_components
        )
        self.text = AttentiveTower(
            config.word_dim, config, config.word_dropout, projection=config.text_projection
        )
        self.words = WordGRU(config) if config.text is TextTowerKind.BIGRU else None

    def embed_regions(self, regions: Float[Tensor, "b r f"]) -> Float[Tensor, "b d"]:
        """Unit embeddings of images, from one view drawn at random in training, else from all."""
        n_images, n_rows, width = regions.shape
        n_views = self.config.views
        views = regions.reshape(n_images, n_views, n_rows // n_views, width)  # (B, V, R, F)
        valid = torch.ones((n_images, views.shape[2]), dtype=torch.bool, device=views.device)
        if self.training:
            drawn = torch.randint(n_views, (n_images,), device=views.device)
            embedding: Tensor = self.image(views[torch.arange(n_images), drawn], valid)
            return embedding
        total = sum(self.image(view, valid) for view in views.unbind(1))
        return functional.normalize(torch.as_tensor(total), dim=-1)


def _kept_features(valid: Tensor, width: int, share: float) -> Tensor:
    """Factors (n, F) of the valid rows: a sample loses the same features in all of its rows."""
    kept = torch.rand((len(valid), width), device=valid.device) > share  # (B, F)
    return kept[valid.nonzero()[:, 0]] / (1 - share)


def _projection(kind: RowProjection, in_dim: int, config: VSEConfig) -> nn.Module:
    match kind:
        case RowProjection.RESIDUAL:
            return ResidualProjection(in_dim, config.embedding_dim, config.hidden_dropout)
        case RowProjection.LINEAR:
            return nn.Linear(in_dim, config.embedding_dim)
        case RowProjection.NONE:
            return nn.Identity()
        case _:
            assert_never(kind)


def _drop(valid: Tensor, share: float) -> Tensor:
    """Valid rows less a random share; a sample that would lose all keeps all."""
    kept = valid & (torch.rand(valid.shape, device=valid.device) > share)
    return torch.where(kept.any(dim=1, keepdim=True), kept, valid)
