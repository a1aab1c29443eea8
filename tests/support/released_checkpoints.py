"""Checkpoints of the structure that ESA and MEET are released in, with made-up weights."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

GOLDEN = Path(__file__).parents[1] / "golden" / "external_attention.npz"
DIM, WORD_DIM, BITS = 32, 20, 16
WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "red", "star", "t-shirt", "'s", "dog", ".")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "star", "dog", "##s")

State = dict[str, Tensor]


def image_state() -> State:
    """The golden image encoder, under the released names."""
    golden = np.load(GOLDEN, allow_pickle=False)
    names = [name for name in golden.files if name not in ("regions", "embeddings")]
    return {name.replace("__", "."): torch.from_numpy(golden[name]) for name in names}


def bigru_state(seed: int = 1, *, n_words: int = len(WORDS), layers: int = 1) -> State:
    """A BiGRU text encoder."""
    torch.manual_seed(seed)
    modules = nn.ModuleDict(
        {
            "embed": nn.Embedding(n_words, WORD_DIM),
            "rnn": nn.GRU(WORD_DIM, DIM, layers, batch_first=True, bidirectional=True),
            "linear1": nn.Linear(DIM, DIM),
        }
    )
    return dict(modules.state_dict())


def bert_state(seed: int = 2) -> State:
    """A BERT text encoder of one layer."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=48,
        max_position_embeddings=24,
    )
    modules = {"linear": nn.Linear(64, DIM), "linear1": nn.Linear(DIM, DIM)}
    bert = {f"bert.{name}": value for name, value in BertModel(config).state_dict().items()}
    return {**bert, **nn.ModuleDict(modules).state_dict()}


def parallel(state: State) -> State:
    """The names that data-parallel training gives."""
    return {f"module.{name}": value for name, value in state.items()}


def esa(image: State, text: State) -> dict[str, Any]:
    """What ESA's training saves."""
    options = Namespace(embed_size=DIM, no_imgnorm=False, no_txtnorm=False)
    return {"epoch": 3, "model": [image, text], "best_rsum": 1.5, "opt": options, "Eiters": 9}


def meet(image: State, text: State, seed: int = 5, *, m: int = 4, n_centroids: int = 6) -> Any:  # noqa: ANN401
    """What MEET's training saves: the attentions and projections are states of their own."""
    content = esa(image, text)
    states = [{k: v for k, v in s.items() if not k.startswith("linear1")} for s in (image, text)]
    for state in (image, text):
        states.append({k: v for k, v in state.items() if k.startswith("linear1")})
    torch.manual_seed(seed)
    states += [dict(nn.ModuleDict({"fc": nn.Linear(DIM, BITS)}).state_dict()) for _ in range(2)]
    content["model"] = states
    for name in ("C_img", "C_txt"):
        parts = torch.randn(m, n_centroids, BITS // m)
        content[name] = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
    return content


def write(path: Path, content: object) -> Path:
    """A file as torch pickles it."""
    torch.save(content, path)
    return path


def write_vocabulary(path: Path, words: tuple[str, ...] = WORDS) -> Path:
    """The JSON beside a released BiGRU."""
    content = {
        "word2idx": {word: i for i, word in enumerate(words)},
        "idx2word": {str(i): word for i, word in enumerate(words)},
        "idx": len(words),
    }
    path.write_text(json.dumps(content))
    return path


def write_pieces(path: Path) -> Path:
    """The word pieces beside a released BERT."""
    path.write_text("\n".join(PIECES) + "\n")
    return path
