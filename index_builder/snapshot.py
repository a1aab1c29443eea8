"""Stage: the encoder's files go into the index, once for all versions that share it."""

import os
import shutil
from pathlib import Path

from model.artifact.files import rename_durably
from model.artifact.store import VersionStore
from model.core.errors import CheckpointError
from model.encoders.opening import encoder_digest, save_snapshot
from model.encoders.protocols import EncoderIdentity, EncoderKind


def keep_snapshot(source: str, identity: EncoderIdentity, store: VersionStore) -> Path | None:
    """The snapshot's folder, named by its digest; None for a gallery of vectors.

    Raises:
        CheckpointError: the encoder's files changed while the build ran.
    """
    if identity.kind is EncoderKind.NONE:
        return None
    target = store.layout.encoder(identity.digest)
    if target.is_dir() and encoder_digest(target) == identity.digest:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    digest = save_snapshot(source, temporary)
    if digest != identity.digest:
        raise CheckpointError(
            f"{source} changed during the build: it had digest {identity.digest}, has {digest}"
        )
    shutil.rmtree(target, ignore_errors=True)
    rename_durably(temporary, target)
    return target
