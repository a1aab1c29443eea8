"""The vocabulary files beside released checkpoints: JSON of a BiGRU, word pieces of a BERT."""

import json
from pathlib import Path

from transformers import BertTokenizer

from model.core.errors import CheckpointError
from model.encoders.vocabulary import Vocabulary, WordRule

# Training adds it behind the words of the file, so embeddings may be one longer.
MASK_WORD = "<mask>"


def read_vocabulary(path: Path, n_embeddings: int) -> Vocabulary:
    """The words of `{"word2idx": …, "idx2word": …, "idx": n}`, ids kept, one per embedding.

    Raises:
        CheckpointError: the file breaks that format or does not fit the embeddings.
    """
    ids = _ids(path)
    words = sorted(ids, key=ids.__getitem__)
    if [ids[word] for word in words] != list(range(len(words))):
        raise CheckpointError(f"{path}: word2idx needs the ids 0 to {len(words) - 1}, each once")
    if len(words) == n_embeddings - 1 and MASK_WORD not in ids:
        words.append(MASK_WORD)
    if len(words) != n_embeddings:
        raise CheckpointError(
            f"embed.weight needs a word for each of its {n_embeddings} rows (the last may be "
            f"{MASK_WORD}), {path} has {len(words)}"
        )
    return Vocabulary(tuple(words), WordRule.RELEASED)


def read_word_pieces(path: Path, n_embeddings: int) -> BertTokenizer:
    """The lower-casing tokeniser of a BERT's `vocab.txt`, one word piece a line.

    Raises:
        CheckpointError: the file cannot be read or does not fit the embeddings.
    """
    try:
        pieces = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"a BERT needs its word pieces at {path}: {error}") from error
    if len(pieces) != n_embeddings or len(set(pieces)) != n_embeddings:
        raise CheckpointError(
            f"a BERT of {n_embeddings} word embeddings needs as many different word pieces, "
            f"{path} has {len(set(pieces))} in {len(pieces)} lines"
        )
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})


def _ids(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ids: dict[str, int] = content["word2idx"]
        back = {int(i): word for i, word in content["idx2word"].items()}
        fits = back == {i: word for word, i in ids.items()} and content["idx"] == len(ids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} needs a vocabulary as JSON with word2idx, idx2word and idx: {error}"
        ) from error
    if not fits:
        raise CheckpointError(f"{path}: word2idx, idx2word and idx need to agree, they do not")
    return ids
