"""Which files make a transformers model, where they are, and their digest.

Only configuration, vocabulary and safetensors files are read: no pickles, no remote code.
"""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers.utils import logging

from model.core.errors import CheckpointError

SUFFIXES = (".json", ".safetensors", ".txt", ".model")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")
_PREPROCESSING = ("preprocessor", "processor", "tokenizer", "vocab", "merges", "special_tokens")


def resolve(source: str | Path) -> Path:
    """The local directory of a model: itself, or the snapshot of a hub name.

    Raises:
        CheckpointError: neither a directory nor a model that the hub, or its cache, holds.
    """
    if Path(source).is_dir():
        return Path(source)
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    try:
        directory = Path(snapshot_download(str(source), allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"a model is a directory or a hub name, got {str(source)!r}, which is neither here "
            f"nor to be fetched ({type(error).__name__})"
        ) from error
    if not has_weights(directory):
        raise CheckpointError(f"the hub's {source} has no weights as safetensors")
    return directory


def model_files(directory: Path) -> list[Path]:
    """The files of a transformers directory that loading reads, sorted by name."""
    return sorted(
        path for path in directory.iterdir() if path.is_file() and path.suffix in SUFFIXES
    )


def has_weights(directory: Path) -> bool:
    """Whether a model comes with weights; without any file of weights it starts from scratch.

    Raises:
        CheckpointError: there are weights, but not as safetensors.
    """
    if any(path.suffix == ".safetensors" for path in model_files(directory)):
        return True
    others = sorted(p.name for p in directory.iterdir() if p.suffix in _OTHER_WEIGHTS)
    if others:
        raise CheckpointError(f"weights need to be safetensors, {directory} has {others[0]}")
    return False


def copy_model(directory: Path, target: Path) -> None:
    """Copy what loading reads into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for path in model_files(directory):
        shutil.copyfile(path, target / path.name)


def is_preprocessing(path: Path) -> bool:
    """Whether a file says how inputs are prepared."""
    return path.name.startswith(_PREPROCESSING)


def digest_files(directory: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over the names, relative to `directory`, and contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    return total.hexdigest()


def load_local(loader: Any, directory: Path, **options: object) -> Any:  # noqa: ANN401
    """What a transformers `Auto…` class reads from a directory, without remote code.

    Raises:
        CheckpointError: the directory is no such model.
    """
    logging.disable_progress_bar()  # a server's stderr is its log
    try:
        return loader.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{directory} is no transformers model: {reason}") from error
