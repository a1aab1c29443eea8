"""CLIP, SigLIP and kin through transformers' own text and image feature methods."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor

from model.core.errors import CheckpointError, UnsupportedInputError
from model.core.types import FloatArray, InputKind
from model.core.vectors import l2_normalised
from model.encoders.transformer_files import load_local

_BLOCK = 32
Item = TypeVar("Item", str, Image.Image)


class DualEncoder:
    """Both towers of a model with `get_text_features` and `get_image_features`."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        self.device = device
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.model: Any = load_local(AutoModel, directory, use_safetensors=True, dtype=dtype)
        if not hasattr(self.model, "get_image_features"):
            raise CheckpointError(
                f"a dual encoder needs text and image features (CLIP, SigLIP, …), {directory} "
                f"holds a {type(self.model).__name__}"
            )
        self.model.to(device).eval().requires_grad_(requires_grad=False)
        self.processor: Any = load_local(AutoProcessor, directory)
        self._padding = _padding(self.model.config.model_type)
        self._max_length = self.model.config.text_config.max_position_embeddings

    @property
    def accepts(self) -> frozenset[InputKind]:
        """IMAGE and TEXT."""
        return frozenset({InputKind.IMAGE, InputKind.TEXT})

    @property
    def embedding_dim(self) -> int:
        """D, by asking the model."""
        return int(self.encode_texts(["a"]).shape[1])

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Unit embeddings (B, D) of RGB images."""
        return self._blocks(images, self._image_features)

    def encode_regions(self, regions: NDArray[np.floating]) -> FloatArray:
        """Nothing: a dual encoder sees whole images.

        Raises:
            UnsupportedInputError: always.
        """
        raise UnsupportedInputError(f"a dual encoder accepts images, got regions {regions.shape}")

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Unit embeddings (B, D) of texts, cut at the model's own length."""
        return self._blocks(texts, self._text_features)

    def _blocks(
        self, items: Sequence[Item], features: Callable[[Sequence[Item]], Tensor]
    ) -> FloatArray:
        with torch.inference_mode():
            blocks = [features(items[i : i + _BLOCK]) for i in range(0, len(items), _BLOCK)]
        return l2_normalised(torch.cat(blocks).float().cpu().numpy())

    def _image_features(self, images: Sequence[Image.Image]) -> Tensor:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        return _tensor(
            self.model.get_image_features(pixel_values=inputs["pixel_values"].to(self.model.dtype))
        )

    def _text_features(self, texts: Sequence[str]) -> Tensor:
        inputs = self.processor(
            text=list(texts),
            padding=self._padding,
            truncation=True,
            max_length=self._max_length,
            return_tensors="pt",
        ).to(self.device)
        return _tensor(self.model.get_text_features(**inputs))


def _tensor(features: object) -> Tensor:
    """Features as a tensor, which some versions wrap in an output object."""
    pooled = features if isinstance(features, Tensor) else getattr(features, "pooler_output", 0)
    if not isinstance(pooled, Tensor):
        raise CheckpointError(f"dual features are tensors, got {type(features).__name__}")
    return pooled


def _padding(model_type: str) -> str | bool:
    """SigLIP was trained on texts padded to full length; the others mask their padding."""
    return "max_length" if model_type.startswith("siglip") else True
