"""Pairs of images and captions as an encoder places them: a split, a bank, a calibration's half."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.core.types import Direction, FloatArray, Modality, RowArray
from model.training.rankings import OneWay


@dataclass(frozen=True)
class Embedded:
    """Unit embeddings of images (N, D) and captions (T, D), and each caption's image (T,)."""

    embeddings: Mapping[Modality, FloatArray]
    image_of_text: RowArray

    def taken(self, images: RowArray) -> "Embedded":
        """The images (ascending rows) with their captions."""
        texts = np.flatnonzero(np.isin(self.image_of_text, images))
        embeddings = {
            Modality.IMAGE: self.embeddings[Modality.IMAGE][images],
            Modality.TEXT: self.embeddings[Modality.TEXT][texts],
        }
        return Embedded(embeddings, np.searchsorted(images, self.image_of_text[texts]))

    def fold(self, index: int, folds: int) -> "Embedded":
        """One of `folds` runs of consecutive images, with their captions."""
        images = np.arange(len(self.embeddings[Modality.IMAGE]))
        return self.taken(np.array_split(images, folds)[index])

    def one_way(self, direction: Direction) -> OneWay:
        """What one direction's queries and candidates are."""
        owners = {
            Modality.IMAGE: np.arange(len(self.embeddings[Modality.IMAGE])),
            Modality.TEXT: self.image_of_text,
        }
        ask, answer = direction.query, direction.candidate
        return OneWay(self.embeddings[ask], self.embeddings[answer], owners[ask], owners[answer])
