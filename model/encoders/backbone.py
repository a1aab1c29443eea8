"""Region features from the grid of any transformers vision backbone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from model.encoders.transformer_files import (
    digest_files,
    has_weights,
    is_preprocessing,
    load_local,
    model_files,
)

CPU_BLOCK = 8


class GridBackbone(nn.Module):
    """Images to region features (B, grid², F): the backbone's last grid, average-pooled.

    A directory with a configuration but no weights starts from random ones. With two views an
    image's regions are followed by those of its mirror image.
    """

    def __init__(self, directory: Path, grid: int, views: int = 1) -> None:
        super().__init__()
        self.grid, self.views = grid, views
        self._directory = directory
        self.processor: Any = load_local(AutoImageProcessor, directory)
        self.pretrained = has_weights(directory)
        self.model: nn.Module = _vision_model(directory, pretrained=self.pretrained)

    @property
    def width(self) -> int:
        """F, by asking the model."""
        size = self.processor.size
        height, width = (size.get(key, 224) for key in ("height", "width"))
        with torch.inference_mode():
            device = next(self.model.parameters()).device
            return int(self(torch.zeros(1, 3, height, width, device=device)).shape[2])

    def pixels(self, images: Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
        """Prepared pixels of RGB images."""
        values: Tensor = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return values

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b r f"]:
        """Regions, row by row from the top left."""
        hidden: Tensor = self.model(pixel_values=pixels).last_hidden_state
        grid = hidden if hidden.ndim == 4 else _square(hidden)
        return functional.adaptive_avg_pool2d(grid, self.grid).flatten(2).transpose(1, 2)

    def regions(self, images: Sequence[Image.Image], device: torch.device) -> NDArray[np.float16]:
        """Region features (B, views · grid², F) as they are stored: fp16."""
        pixels = self.pixels(images).to(device, memory_format=torch.channels_last)
        views = (pixels, pixels.flip(-1))[: self.views]
        with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
            regions = torch.cat([self._forward_in_blocks(view) for view in views], dim=1)
        return np.asarray(regions.to(torch.float16).cpu().numpy())

    def _forward_in_blocks(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b r f"]:
        # On a CPU a few images at a time: their activations stay in the memory that is at hand.
        size = len(pixels) if pixels.device.type == "cuda" else CPU_BLOCK
        return torch.cat([self(block) for block in torch.split(pixels, size)])

    def fingerprint(self, *, frozen: bool) -> str:
        """A digest of what features depend on: the preparation, and frozen weights too."""
        files = model_files(self._directory)
        return digest_files(
            self._directory, [path for path in files if frozen or is_preprocessing(path)]
        )

    def save(self, directory: Path) -> None:
        """Write a transformers directory that opens with these weights."""
        self.model.save_pretrained(directory)  # type: ignore[operator]
        self.processor.save_pretrained(directory)


def _vision_model(directory: Path, *, pretrained: bool) -> nn.Module:
    if pretrained:
        model = load_local(AutoModel, directory, use_safetensors=True)
    else:
        model = AutoModel.from_config(load_local(AutoConfig, directory))
    vision: nn.Module = getattr(model, "vision_model", model)
    return vision.eval()


def _square(hidden: Float[Tensor, "b p f"]) -> Float[Tensor, "b f s s"]:
    """The patch grid of a vision transformer; tokens before the patches are left out."""
    side = int(hidden.shape[1] ** 0.5)
    patches = hidden[:, -side * side :]
    return patches.transpose(1, 2).reshape(len(hidden), -1, side, side)
