import json
import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.checkpoint import Checkpoint, open_checkpoint
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.heads.heads import HeadsConfig
from model.rerankers.weights import StageTwo
from model.training.train_cli import main
from tests.support import released_checkpoints as released
from tests.support.released_checkpoints import BITS, DIM, GOLDEN, PIECES, WORD_DIM, WORDS

TEXTS = {  # ids by hand, as positions in WORDS
    "A red star.": [1, 4, 5, 6, 10, 2],
    "a dog's t-shirt": [1, 4, 9, 8, 7, 2],
    "unheard": [1, 3, 2],
}
PIECE_IDS = {"a red star": [2, 5, 6, 7, 3], "Dogs": [2, 8, 9, 3]}


def bring_in(tmp_path: Path, content: object, vocabulary: Path | None = None) -> int:
    told = ["--checkpoint", str(released.write(tmp_path / "model_best.pth", content))]
    if vocabulary is not None:
        told += ["--vocabulary", str(vocabulary)]
    return main(["import", *told, "--out", str(tmp_path / "ck")])


def imported(tmp_path: Path, content: object, vocabulary: Path | None = None) -> Checkpoint:
    words = vocabulary or released.write_vocabulary(tmp_path / "vocab.json")
    assert bring_in(tmp_path, content, words) == 0
    return open_checkpoint(tmp_path / "ck")


def attended(states: Tensor, state: released.State) -> FloatArray:
    """A text's embedding (D,) from its states (R, D), as the papers write it."""
    weights = (states @ state["linear1.weight"].T + state["linear1.bias"]).softmax(dim=0)
    return l2_normalised((weights * states).sum(dim=0).numpy())


def bigru_embedding(ids: list[int], state: released.State, layers: int = 1) -> FloatArray:
    gru = torch.nn.GRU(WORD_DIM, DIM, layers, batch_first=True, bidirectional=True)
    gru.load_state_dict({k.removeprefix("rnn."): v for k, v in state.items() if k[:4] == "rnn."})
    with torch.no_grad():
        both = gru(functional.embedding(torch.tensor([ids]), state["embed.weight"]))[0][0]
        return attended((both[:, :DIM] + both[:, DIM:]) / 2, state)


@pytest.mark.parametrize("build", [released.esa, released.meet])
@pytest.mark.parametrize("rename", [dict, released.parallel])
def test_image_embeddings_are_the_papers_own(
    build: Callable[..., dict[str, Any]], rename: Callable[..., released.State], tmp_path: Path
) -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    content = build(released.image_state(), released.bigru_state())
    content["model"] = [rename(state) for state in content["model"]]
    found = imported(tmp_path, content).encoder.encode_regions(golden["regions"])
    assert found == pytest.approx(golden["embeddings"], abs=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bigrus_texts_follow_the_papers_formula_over_the_vocabularys_ids(
    layers: int, tmp_path: Path
) -> None:
    state = released.bigru_state(layers=layers)
    opened = imported(tmp_path, released.esa(released.image_state(), state))
    found = opened.encoder.encode_texts(list(TEXTS))
    expected = [bigru_embedding(ids, state, layers) for ids in TEXTS.values()]
    assert found == pytest.approx(np.stack(expected), abs=1e-6)


def test_the_mask_that_training_adds_needs_no_place_in_the_vocabulary(tmp_path: Path) -> None:
    state = released.bigru_state(n_words=len(WORDS) + 1)
    opened = imported(tmp_path, released.esa(released.image_state(), state))
    found = opened.encoder.encode_texts(["unheard"])[0]
    assert found == pytest.approx(bigru_embedding([1, 3, 2], state), abs=1e-6)


def test_a_berts_texts_follow_the_papers_formula(tmp_path: Path) -> None:
    state = released.bert_state()
    pieces = released.write_pieces(tmp_path / "vocab.txt")
    opened = imported(tmp_path, released.esa(released.image_state(), state), pieces)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=48,
        max_position_embeddings=24,
    )
    bert = BertModel(config).eval()
    bert.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("bert.")})
    found = opened.encoder.encode_texts(list(PIECE_IDS))
    for ids, embedding in zip(PIECE_IDS.values(), found, strict=True):
        with torch.no_grad():
            hidden = bert(torch.tensor([ids])).last_hidden_state[0]
        states = hidden @ state["linear.weight"].T + state["linear.bias"]
        assert embedding == pytest.approx(attended(states, state), abs=1e-5)


def test_meets_heads_are_its_projections_and_the_blocks_of_its_codebooks(tmp_path: Path) -> None:
    content = released.meet(released.image_state(), released.bigru_state())
    opened = imported(tmp_path, content)
    assert opened.heads is not None
    assert opened.heads.config == HeadsConfig(
        embedding_dim=DIM, n_bits=BITS, n_subspaces=4, n_centroids=6
    )
    rows = l2_normalised(np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float32))
    for place, (modality, name) in enumerate(zip(Modality, ("C_img", "C_txt"), strict=True)):
        book = content[name].numpy()
        by_hand = [book[0:6, 0:4], book[6:12, 4:8], book[12:18, 8:12], book[18:24, 12:16]]
        assert (opened.heads.heads[modality].codebooks == np.stack(by_hand)).all()
        layer = content["model"][4 + place]
        expected = np.tanh(rows @ layer["fc.weight"].numpy().T + layer["fc.bias"].numpy())
        assert opened.heads.hash_space(modality, rows) == pytest.approx(expected, abs=1e-6)


def test_esa_brings_no_heads_and_both_start_with_the_default_weights(tmp_path: Path) -> None:
    opened = imported(tmp_path, released.esa(released.image_state(), released.bigru_state()))
    assert opened.heads is None
    assert opened.stage_two == StageTwo()


def changed(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> object:
        return {k: v for k, v in {**content, name: value}.items() if v is not None}

    return change


def in_state(place: int, key: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> object:
        state = {**content["model"][place], key: value}
        content["model"][place] = {k: v for k, v in state.items() if v is not None}
        return content

    return change


def off_the_diagonal(content: dict[str, Any]) -> object:
    content["C_txt"][0, -1] = 1.0
    content["C_txt"] = torch.cat([content["C_txt"]] * 11)  # no single block of 264 rows either
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (in_state(0, "fc.weight", None), "the image encoder state lacks fc.weight"),
        (
            in_state(1, "gpool.x", torch.ones(2)),
            r"text encoder .* unknown key gpool.x of shape \(2,",
        ),
        (
            in_state(0, "mlp.layers.1.weight", torch.ones(32, 15)),
            r"mlp.layers.1.weight needs shape \(32, 16\), got \(32, 15\)",
        ),
        (
            in_state(1, "rnn.weight_hh_l0_reverse", torch.ones(96, 31)),
            r"rnn.weight_hh_l0_reverse needs shape \(96, 32\), got \(96, 31\)",
        ),
        (in_state(0, "fc.bias", 3), "fc.bias needs a tensor, got int"),
        (in_state(2, "other.bias", torch.ones(1)), "image attention .* one weight and one bias"),
        (
            in_state(5, "fc.weight", torch.ones(16, 31)),
            r"text projection state: fc.weight needs shape \(any, 32\), got \(16, 31\)",
        ),
        (changed("model", [{}] * 3), r"list of 2 states \(ESA\) or of 6 \(MEET\), got 3"),
        (changed("model", None), "lacks 'model', it holds epoch, best_rsum, opt"),
        (changed("opt", {"embed_size": 32}), "'opt' needs a Namespace, got dict"),
        (changed("C_txt", None), r"C_txt needs a tensor \(M·L, K\), got NoneType"),
        (
            changed("C_img", torch.ones(8, 12)),
            "C_img needs K=16 columns as the projections, got 12",
        ),
        (
            changed("C_img", torch.ones(8, 16)),
            r"text codebooks needs shape \(1, 8, 16\), got \(4, 6",
        ),
        (off_the_diagonal, "C_txt needs blocks of at most 256 rows .* got 264 rows"),
        (
            changed("opt", Namespace(no_imgnorm=True)),
            "unit length, got opt.no_imgnorm=True",
        ),
        (changed("epoch", Path("x")), "argparse.Namespace alone, it asks for pathlib"),
        (changed("epoch", np.float64(1)), "argparse.Namespace alone, it asks for numpy"),
        (lambda _: [1, 2], "needs a dictionary, got list"),
    ],
)
def test_what_is_not_of_the_released_form_is_refused_in_one_sentence(
    change: Callable[[dict[str, Any]], object],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = released.meet(released.image_state(), released.bigru_state())
    words = released.write_vocabulary(tmp_path / "vocab.json")
    assert bring_in(tmp_path, change(content), words) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "ck").exists()


class _Caller:
    """Pickles as a call of the operating system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_that_would_call_something_is_refused_before_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = released.esa(released.image_state(), released.bigru_state())
    content["opt"].surprise = _Caller(f"touch {tmp_path / 'called'}")
    assert bring_in(tmp_path, content) == 2
    assert "it asks for posix.system" in capsys.readouterr().err
    assert not (tmp_path / "called").exists()


def test_a_file_that_is_no_pickle_and_one_that_is_missing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.pth").write_text("words")
    for name, said in (("words.pth", "words.pth"), ("gone.pth", "there is no checkpoint")):
        told = ["--checkpoint", str(tmp_path / name), "--out", str(tmp_path / "ck")]
        assert main(["import", *told]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (released.bigru_state, r"give the vocabulary \(JSON\) of .* with --vocabulary"),
        (released.bert_state, r"give the word pieces \(vocab.txt\) of .* with --vocabulary"),
    ],
)
def test_word_ids_without_their_words_are_refused(
    state: Callable[[], released.State],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bring_in(tmp_path, released.esa(released.image_state(), state())) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"word2idx": {"a": 0}, "idx2word": {"0": "b"}, "idx": 1}, "to agree, they do not"),
        ({"word2idx": {"a": 0}, "idx": 1}, "as JSON with word2idx, idx2word and idx: 'idx2word'"),
        ({"word2idx": {"a": 1}, "idx2word": {"1": "a"}, "idx": 1}, "the ids 0 to 0, each once"),
        ({"word2idx": {"a": 0}, "idx2word": {"0": "a"}, "idx": 1}, "its 11 rows .* has 1"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    content: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "vocab.json"
    words.write_text(json.dumps(content))
    given = released.esa(released.image_state(), released.bigru_state())
    assert bring_in(tmp_path, given, words) == 2
    assert re.search(said, capsys.readouterr().err)
