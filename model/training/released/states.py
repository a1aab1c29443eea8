"""Released modules under our names: towers of the encoder and heads of Stage I.

The names are those of the published code of ESA, which MEET builds on: `fc`, `mlp` and `linear1`
of images, `embed`, `rnn` and `linear1` of a BiGRU, `bert`, `linear` and `linear1` of a BERT.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import BertConfig, BertModel

from model.core.errors import CheckpointError, CodeShapeError
from model.core.types import FloatArray, Modality
from model.encoders.towers import RowProjection, TextTowerKind
from model.heads.heads import MAX_CENTROIDS, Heads, HeadsConfig, ModalityHead
from model.training.released.reading import CODEBOOKS
from model.training.released.tensors import Tensors, contiguous, prefixed

BERT_HEAD_WIDTH = 64
BERT_PREFIX = "bert."
_NORM = ("weight", "bias", "running_mean", "running_var")
_POSITIONS = "embeddings.position_ids"  # a constant that older releases saved


@dataclass(frozen=True)
class Tower:
    """A tower's weights under our names, and what the encoder's config says of it."""

    weights: dict[str, Tensor]
    config: dict[str, Any]
    bert: BertModel | None = None


def image_tower(state: Tensors, attention: Tensors | None) -> Tower:
    """Regions to embeddings; the attention is a state of its own in MEET.

    The second batch norm of the MLP is stored there but never applied, so it is left out.
    """
    linear = state.take_linear("fc", None, None)
    dim, region_dim = linear["weight"].shape
    half = dim // 2
    weights = {
        **prefixed("linear", linear),
        **prefixed("hidden", state.take_linear("mlp.layers.0", half, region_dim)),
        **prefixed("out", state.take_linear("mlp.layers.1", dim, half)),
        **prefixed("norm", _batch_norm(state, "mlp.bns.0", half)),
    }
    _batch_norm(state, "mlp.bns.1", dim)
    named = {**prefixed("projection", weights), **_attention(state, attention, dim)}
    state.done()
    return Tower(prefixed("image", named), {"embedding_dim": dim, "region_dim": region_dim})


def text_tower(state: Tensors, attention: Tensors | None, dim: int) -> Tower:
    """Words to embeddings (B, D): a BERT where the state has one, else a BiGRU."""
    bert = any(key.startswith(BERT_PREFIX) for key in state.keys)
    tower = _bert(state, dim) if bert else _bigru(state, dim)
    named = prefixed("text", _attention(state, attention, dim))
    state.done()
    return Tower({**tower.weights, **named}, tower.config, tower.bert)


def heads_of(
    projections: Mapping[Modality, Tensors], codebooks: Mapping[Modality, Tensor], dim: int
) -> Heads:
    """Hash layers (K, D) with their codebooks (M, L, S).

    Raises:
        CheckpointError: the modalities' widths differ, or break a rule of heads.
    """
    linear = {m: projections[m].take_only_linear(None, dim) for m in Modality}
    bits = {m: len(linear[m]["weight"]) for m in Modality}
    books = {m: blocks(CODEBOOKS[m], codebooks[m], bits[m]) for m in Modality}
    n_subspaces, n_centroids, _ = books[Modality.IMAGE].shape
    parts = {
        m: ModalityHead(linear[m]["weight"].numpy(), linear[m]["bias"].numpy(), books[m])
        for m in Modality
    }
    try:
        config = HeadsConfig(
            embedding_dim=dim,
            n_bits=bits[Modality.IMAGE],
            n_subspaces=n_subspaces,
            n_centroids=n_centroids,
        )
        return Heads(config, parts)
    except CodeShapeError as error:
        raise CheckpointError(f"the released heads break a rule: {error}") from error


def blocks(name: str, codebook: Tensor, n_bits: int) -> FloatArray:
    """The codebooks (M, L, S) on the diagonal of a matrix (M·L, K).

    M is the largest number of equal blocks that leaves nothing outside of them.

    Raises:
        CheckpointError: the matrix is not as wide as the codes, or not block-diagonal.
    """
    rows, width = codebook.shape
    if width != n_bits:
        raise CheckpointError(f"{name} needs K={n_bits} columns as the projections, got {width}")
    matrix = codebook.numpy()
    for count in range(min(rows, width), 0, -1):
        if rows % count or width % count or rows // count > MAX_CENTROIDS:
            continue
        grid = matrix.reshape(count, rows // count, count, width // count)
        own = grid[np.arange(count), :, np.arange(count)]  # (M, L, S)
        if np.count_nonzero(own) == np.count_nonzero(matrix):
            return np.ascontiguousarray(own)
    raise CheckpointError(
        f"{name} needs blocks of at most {MAX_CENTROIDS} rows on its diagonal and zeros elsewhere, "
        f"got {rows} rows and {width} columns without"
    )


def _attention(state: Tensors, attention: Tensors | None, dim: int) -> dict[str, Tensor]:
    if attention is None:
        return prefixed("attention.memory", state.take_linear("linear1", dim, dim))
    return prefixed("attention.memory", attention.take_only_linear(dim, dim))


def _batch_norm(state: Tensors, key: str, width: int) -> dict[str, Tensor]:
    norm = {name: state.take(f"{key}.{name}", (width,)) for name in _NORM}
    return {**norm, "num_batches_tracked": state.take(f"{key}.num_batches_tracked", ())}


def _bigru(state: Tensors, dim: int) -> Tower:
    """A BiGRU as wide as the embeddings, attended over as it is."""
    embed = state.take("embed.weight", (None, None))
    n_words, word_dim = embed.shape
    n_layers = sum(key.startswith("rnn.weight_ih_l") for key in state.keys) // 2 or 1
    weights = {"words.embed.weight": embed}
    for layer in range(n_layers):
        in_dim = word_dim if layer == 0 else 2 * dim
        shapes = {"weight_ih": (3 * dim, in_dim), "weight_hh": (3 * dim, dim)}
        shapes |= {"bias_ih": (3 * dim,), "bias_hh": (3 * dim,)}  # type: ignore[dict-item]
        for end in ("", "_reverse"):
            for part, shape in shapes.items():
                name = f"{part}_l{layer}{end}"
                weights[f"words.gru.{name}"] = state.take(f"rnn.{name}", shape)
    config = {
        "text": TextTowerKind.BIGRU,
        "word_dim": dim,
        "vocabulary_size": n_words,
        "word_embedding_dim": word_dim,
        "text_projection": RowProjection.NONE,
        "words_beside": False,
        "gru_layers": n_layers,
    }
    return Tower(weights, config)


def _bert(state: Tensors, dim: int) -> Tower:
    """A BERT whose last hidden states are mapped to D dimensions."""
    bert = _empty_bert(state)
    width = bert.config.hidden_size
    own = {
        name: state.take(BERT_PREFIX + name, tuple(value.shape))
        for name, value in bert.state_dict().items()
    }
    if BERT_PREFIX + _POSITIONS in state.keys:
        state.take(BERT_PREFIX + _POSITIONS, (1, bert.config.max_position_embeddings))
    bert.load_state_dict({name: contiguous(value) for name, value in own.items()})
    weights = prefixed("text.projection", state.take_linear("linear", dim, width))
    config = {
        "text": TextTowerKind.TRANSFORMER,
        "word_dim": width,
        "text_projection": RowProjection.LINEAR,
    }
    return Tower(weights, config, bert)


def _empty_bert(state: Tensors) -> BertModel:
    """A BERT of the shapes that a state shows; BERTs of every size have heads 64 wide."""
    n_words, width = _matrix(state, "embeddings.word_embeddings")
    layers = {
        key.split(".")[3] for key in state.keys if key.startswith(f"{BERT_PREFIX}encoder.layer.")
    }
    if width % BERT_HEAD_WIDTH:
        raise CheckpointError(
            f"a BERT needs a width of whole heads of {BERT_HEAD_WIDTH}, got {width}"
        )
    config = BertConfig(
        vocab_size=n_words,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=width // BERT_HEAD_WIDTH,
        intermediate_size=_matrix(state, "encoder.layer.0.intermediate.dense")[0],
        max_position_embeddings=_matrix(state, "embeddings.position_embeddings")[0],
        type_vocab_size=_matrix(state, "embeddings.token_type_embeddings")[0],
    )
    return BertModel(config, add_pooling_layer=f"{BERT_PREFIX}pooler.dense.weight" in state.keys)


def _matrix(state: Tensors, name: str) -> tuple[int, ...]:
    return state.shape(f"{BERT_PREFIX}{name}.weight", (None, None))
