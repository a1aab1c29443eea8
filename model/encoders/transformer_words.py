"""Word features from any transformers text encoder, kept as it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from model.encoders.transformer_files import load_local


class TransformerWords(nn.Module):
    """Texts to the last hidden states (B, R, W) of a text encoder, with their mask."""

    def __init__(self, directory: Path, max_words: int) -> None:
        super().__init__()
        self.max_words = max_words
        self.tokenizer: Any = load_local(AutoTokenizer, directory)
        model = load_local(AutoModel, directory, use_safetensors=True)
        self.model: nn.Module = getattr(model, "text_model", model).eval()
        self.word_dim: int = self.model.config.hidden_size

    def forward(self, texts: Sequence[str]) -> tuple[Float[Tensor, "b r w"], Bool[Tensor, "b r"]]:
        """Word features, zero where the mask says padding."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_words,
            return_tensors="pt",
        ).to(self.model.device)
        hidden: Tensor = self.model(**tokens).last_hidden_state
        valid = tokens["attention_mask"].bool()
        return hidden * valid.unsqueeze(-1), valid

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of valid words of each text, as `forward` sees it."""
        tokens = self.tokenizer(list(texts), truncation=True, max_length=self.max_words)
        return [len(ids) for ids in tokens["input_ids"]]
