"""Randomly initialised models on disk, in the files that transformers' own are published in."""

import json
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
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
    ends = {"bos_token_id": n_tokens - 2, "eos_token_id": n_tokens - 1, "pad_token_id": n_tokens - 1}
    text = {**tower, **ends, "vocab_size": n_tokens, "max_position_embeddings": 64}
    vision = {**tower, "image_size": _SIDE, "patch_size": 8}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH)
