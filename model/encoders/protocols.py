"""What the cascade's callers know of an encoder: who it is, what it accepts, what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.core.errors import UnsupportedInputError
from model.core.types import FloatArray, Frozen, InputKind

Tower = TypeVar("Tower")


class EncoderKind(StrEnum):
    """How an encoder is built."""

    VSE = "vse"
    DUAL = "dual"
    NONE = "none"


class EncoderIdentity(Frozen):
    """What must agree between an index and the encoder that answers for it.

    `digest` covers every file of the encoder, `preprocessing_digest` those that say how an
    image or a text becomes its input.
    """

    name: str
    kind: EncoderKind
    embedding_dim: int
    accepts: tuple[InputKind, ...]
    preprocessing_digest: str
    digest: str


@runtime_checkable
class ImageEncoder(Protocol):
    """Images, or their regions, to unit embeddings."""

    @property
    def accepts(self) -> frozenset[InputKind]:
        """IMAGE, REGIONS or both."""

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Unit embeddings (B, D) of RGB images."""

    def encode_regions(self, regions: NDArray[np.floating]) -> FloatArray:
        """Unit embeddings (B, D) of region features (B, R, F)."""


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to unit embeddings."""

    @property
    def accepts(self) -> frozenset[InputKind]:
        """TEXT."""

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Unit embeddings (B, D)."""


@runtime_checkable
class WordReader(Protocol):
    """A text encoder that reads whole words, some of which mean nothing to it."""

    def knows(self, text: str) -> bool:
        """Whether any word of the text means something to it."""


@dataclass(frozen=True)
class Encoder:
    """Both towers under one identity; a tower that is missing accepts nothing."""

    identity: EncoderIdentity
    image: ImageEncoder | None
    text: TextEncoder | None

    def require(self, kind: InputKind) -> None:
        """Refuse an input kind that the encoder does not accept.

        Raises:
            UnsupportedInputError: always names what is accepted instead.
        """
        if kind not in self.identity.accepts:
            accepted = ", ".join(sorted(self.identity.accepts))
            raise UnsupportedInputError(
                f"encoder {self.identity.name!r} accepts {accepted}, got {kind.value}"
            )

    def knows(self, text: str) -> bool:
        """Whether any of the text is understood; parts of words always are, whole words may not."""
        return self.text.knows(text) if isinstance(self.text, WordReader) else True

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Unit embeddings (B, D) of RGB images.

        Raises:
            UnsupportedInputError: the encoder takes no images.
        """
        self.require(InputKind.IMAGE)
        return _present(self.image).encode_images(images)

    def encode_regions(self, regions: NDArray[np.floating]) -> FloatArray:
        """Unit embeddings (B, D) of region features (B, R, F).

        Raises:
            UnsupportedInputError: the encoder takes no regions.
        """
        self.require(InputKind.REGIONS)
        return _present(self.image).encode_regions(regions)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Unit embeddings (B, D) of texts.

        Raises:
            UnsupportedInputError: the encoder takes no texts.
        """
        self.require(InputKind.TEXT)
        return _present(self.text).encode_texts(texts)


def _present(tower: Tower | None) -> Tower:
    if tower is None:
        raise UnsupportedInputError("an encoder accepts a kind only with a tower for it, got none")
    return tower
