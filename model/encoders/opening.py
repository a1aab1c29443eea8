"""From a directory or a hub name to an encoder, and back to a self-contained directory."""

import hashlib
import shutil
from pathlib import Path

import torch
from pydantic import ValidationError

from model.core.errors import CheckpointError
from model.core.types import Frozen, InputKind
from model.encoders.dual import DualEncoder
from model.encoders.protocols import Encoder, EncoderIdentity, EncoderKind
from model.encoders.towers import VSEConfig
from model.encoders.transformer_files import (
    digest_files,
    is_preprocessing,
    model_files,
    resolve,
)
from model.encoders.vse import (
    TEXT,
    VISION,
    VOCABULARY,
    WEIGHTS,
    VSEImageEncoder,
    VSETextEncoder,
    open_vse,
)

ENCODER_FILE = "encoder.json"
NO_ENCODER = "none"


class EncoderFile(Frozen):
    """`encoder.json` of a checkpoint: a VSE, or the name of a dual model beside it."""

    kind: EncoderKind
    name: str
    vse: VSEConfig | None = None


def read_encoder_file(directory: Path) -> EncoderFile | None:
    """What `encoder.json` says; None for a plain transformers directory.

    Raises:
        CheckpointError: the file breaks its format.
    """
    path = directory / ENCODER_FILE
    if not path.exists():
        return None
    try:
        return EncoderFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path} is no encoder description: {error}") from error


def open_encoder(source: str | Path, device: str = "cpu") -> Encoder:
    """The encoder of a checkpoint, a transformers directory or a hub name; "none" for none.

    Raises:
        CheckpointError: nothing there that can be opened, or a device that is not there.
    """
    place = named_device(device)
    if str(source) == NO_ENCODER:
        return vectors_only(0)
    directory = resolve(source)
    description = read_encoder_file(directory)
    if description is None or description.vse is None:
        return _open_dual(directory, description, str(source), place)
    parts = open_vse(directory, description.vse, place)
    identity = _identity(directory, description, description.vse.embedding_dim, parts.accepts)
    return Encoder(identity, VSEImageEncoder(parts, place), VSETextEncoder(parts, place))


def vectors_only(embedding_dim: int) -> Encoder:
    """The encoder of a gallery that knows vectors alone."""
    identity = EncoderIdentity(
        name=NO_ENCODER,
        kind=EncoderKind.NONE,
        embedding_dim=embedding_dim,
        accepts=(InputKind.VECTOR,),
        preprocessing_digest=NO_ENCODER,
        digest=NO_ENCODER,
    )
    return Encoder(identity, None, None)


def save_snapshot(source: str | Path, directory: Path) -> str:
    """Copy an encoder into `directory`, which then opens with an equal digest: that digest."""
    origin = resolve(source)
    for path in _encoder_files(origin):
        target = directory / path.relative_to(origin)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return encoder_digest(directory)


def encoder_digest(directory: Path) -> str:
    """SHA-256 over every file that makes the encoder; heads and training do not count."""
    return digest_files(directory, _encoder_files(directory))


def write_encoder_file(directory: Path, description: EncoderFile) -> None:
    """Write `encoder.json`."""
    text = description.model_dump_json(indent=2)
    (directory / ENCODER_FILE).write_text(text + "\n", encoding="utf-8")


def _encoder_files(directory: Path) -> list[Path]:
    if not (directory / ENCODER_FILE).exists():
        return model_files(directory)
    own = [directory / name for name in (ENCODER_FILE, WEIGHTS, VOCABULARY)]
    towers = [directory / name for name in (VISION, TEXT, EncoderKind.DUAL.value)]
    nested = [path for tower in towers if tower.is_dir() for path in model_files(tower)]
    return sorted([path for path in own if path.exists()] + nested)


def _open_dual(
    directory: Path, description: EncoderFile | None, source: str, device: torch.device
) -> Encoder:
    nested = directory / EncoderKind.DUAL.value
    dual = DualEncoder(nested if description else directory, device)
    described = description or EncoderFile(kind=EncoderKind.DUAL, name=_name(source))
    accepts = (InputKind.IMAGE, InputKind.TEXT, InputKind.VECTOR)
    identity = _identity(directory, described, dual.embedding_dim, accepts)
    return Encoder(identity, dual, dual)


def _identity(
    directory: Path, description: EncoderFile, dim: int, accepts: tuple[InputKind, ...]
) -> EncoderIdentity:
    files = _encoder_files(directory)
    preprocessing = digest_files(directory, [path for path in files if is_preprocessing(path)])
    shape = hashlib.sha256(f"{preprocessing} {description.vse}".encode()).hexdigest()
    return EncoderIdentity(
        name=description.name,
        kind=description.kind,
        embedding_dim=dim,
        accepts=accepts,
        preprocessing_digest=shape,
        digest=digest_files(directory, files),
    )


def _name(source: str) -> str:
    return Path(source).name if Path(source).is_dir() else source


def named_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        CheckpointError: no such device, or not on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"a device is cpu or cuda[:n], got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device {name!r} needs CUDA, which this machine has not")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise CheckpointError(f"GPUs are cuda:0 to cuda:{count - 1} on this machine, got {name!r}")
    return device
