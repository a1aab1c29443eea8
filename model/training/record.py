"""What a checkpoint says of how it was trained."""

from pathlib import Path

from pydantic import ValidationError

from model.core.errors import CheckpointError
from model.core.types import Frozen
from model.training.options import HeadsOptions, VSEOptions

TRAINING_FILE = "training.json"


class TrainingRecord(Frozen):
    """Options of the runs behind a checkpoint.

    `backbone_trained` says that the vision backbone was not kept as it was found; `encoder` names
    an encoder that was not trained here, `imported` a released file.
    """

    vse: VSEOptions | None = None
    backbone_trained: bool = False
    encoder: str | None = None
    imported: str | None = None
    heads: HeadsOptions | None = None
    data: str | None = None

    def write(self, checkpoint: Path) -> None:
        """Write it into a checkpoint's folder."""
        text = self.model_dump_json(indent=2, exclude_none=True)
        (checkpoint / TRAINING_FILE).write_text(text + "\n")

    @classmethod
    def read(cls, checkpoint: Path) -> "TrainingRecord | None":
        """A checkpoint's record; None where it has none.

        Raises:
            CheckpointError: the file holds something else.
        """
        path = checkpoint / TRAINING_FILE
        if not path.exists():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise CheckpointError(f"{path} is no training record: {error}") from error
