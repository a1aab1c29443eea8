"""Randomly initialised models on disk, in the files that transformers' own are published in."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    ViTImageProcessor,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'-#"
_WIDTH = 32
_SIDE = 32


def save_tiny_clip(directory: Path, seed: int = 0) -> Path:
    """A CLIP of two small layers a tower whose tokens are letters."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary_file, merges_file = directory / "vocab.json", directory / "merges.txt"
    vocabulary_file.write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    merges_file.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(vocab=str(vocabulary_file), merges=str(merges_file))
    size = {"height": _SIDE, "width": _SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": _SIDE}, crop_size=size)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)
    torch.manual_seed(seed)
    CLIPModel(_config(len(vocabulary))).save_pretrained(directory, safe_serialization=True)
    return directory


def _config(n_tokens: int) -> CLIPConfig:
    tower = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": _WIDTH,
    }
    ends = {
        "bos_token_id": n_tokens - 2,
        "eos_token_id": n_tokens - 1,
        "pad_token_id": n_tokens - 1,
    }
    text = {**tower, **ends, "vocab_size": n_tokens, "max_position_embeddings": 64}
    vision = {**tower, "image_size": _SIDE, "patch_size": 8}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH)


def save_tiny_siglip(directory: Path, seed: int = 0) -> Path:
    """A SigLIP of two small layers a tower whose tokens are letters."""
    tower = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    letters = {letter: i for i, letter in enumerate(["<pad>", "<unk>", "▁", *_LETTERS])}
    model = Tokenizer(WordLevel(letters, unk_token="<unk>"))
    model.pre_tokenizer = Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", unk_token="<unk>", model_max_length=16
    )
    images = SiglipImageProcessor(size={"height": _SIDE, "width": _SIDE})
    directory.mkdir(parents=True, exist_ok=True)
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)
    text = {**tower, "vocab_size": len(letters), "max_position_embeddings": 16}
    vision = {**tower, "image_size": _SIDE, "patch_size": 8}
    torch.manual_seed(seed)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(directory)
    return directory


def save_tiny_bert(directory: Path, seed: int = 0) -> Path:
    """A BERT of one small layer whose tokens are a few words and letters."""
    directory.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, "a", "red", "star", "dog", *(f"##{letter}" for letter in _LETTERS)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    BertTokenizer(vocab=vocabulary).save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=_WIDTH,
    )
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(directory)
    return directory


def save_tiny_resnet(directory: Path, seed: int = 0) -> Path:
    """A ResNet of one block that turns 32 pixels into a grid of 4 by 4, 8 wide."""
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8],
        depths=[1, 1],
        layer_type="basic",
        downsample_in_first_stage=False,
    )
    torch.manual_seed(seed)
    ResNetModel(config).save_pretrained(directory)
    ViTImageProcessor(size={"height": _SIDE, "width": _SIDE}).save_pretrained(directory)
    return directory
