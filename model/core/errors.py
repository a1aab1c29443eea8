"""The one tree of errors; every message gives the rule and the value that broke it.

MeetError
├── InputError              the caller gave something that breaks a rule
│   ├── DataFormatError     a data set, manifest or file of the gallery breaks its format
│   ├── ImageRejectedError  bytes that are no image this service takes
│   ├── TextRejectedError   a text that no query or caption may be
│   ├── VectorRejectedError a vector of the wrong width, kind or values
│   ├── FilterRejectedError a metadata filter that breaks a rule
│   ├── UncalibratedError   a least score where the index has nothing to compare scores with
│   ├── UnsupportedInputError  an input kind that the encoder does not accept
│   ├── UnsupportedRerankError a mode of Stage II that the index has no parts for
│   └── UnknownItemError    an id that the gallery does not hold
├── CodeShapeError          widths of codes, heads or codebooks that do not fit together
├── MissingExtraError       a package that belongs to an extra which is not installed
├── CheckpointError         a checkpoint that cannot be read or does not fit
└── ArtifactError           an index that cannot be opened
    ├── DigestMismatchError    bytes that are not the bytes written
    ├── EncoderMismatchError   an index and an encoder that do not belong together
    └── VersionNotFoundError   a version, or a published one, that is not there
"""


class MeetError(Exception):
    """The root: whatever this project raises on purpose."""

    @property
    def code(self) -> str:
        """The error's name for machines, as `snake_case` without the ending."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class InputError(MeetError):
    """The caller gave something that breaks a rule."""


class DataFormatError(InputError):
    """A data set, manifest or file of the gallery breaks its format."""


class ImageRejectedError(InputError):
    """Bytes that are no image this service takes."""


class TextRejectedError(InputError):
    """A text that no query or caption may be."""


class VectorRejectedError(InputError):
    """A vector of the wrong width, kind or values."""


class FilterRejectedError(InputError):
    """A metadata filter that breaks a rule."""


class UncalibratedError(InputError):
    """A least score where the index has nothing to compare scores with."""


class UnsupportedInputError(InputError):
    """An input kind that the encoder does not accept."""


class UnsupportedRerankError(InputError):
    """A mode of Stage II that the index has no parts for."""


class UnknownItemError(InputError):
    """An id that the gallery does not hold."""


class CodeShapeError(MeetError):
    """Widths of codes, heads or codebooks that do not fit together."""


class MissingExtraError(MeetError):
    """A package that belongs to an extra which is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package} is needed for {what}: pip install {package} (extra {extra})"
        )


class CheckpointError(MeetError):
    """A checkpoint that cannot be read or does not fit."""


class ArtifactError(MeetError):
    """An index that cannot be opened."""


class DigestMismatchError(ArtifactError):
    """Bytes that are not the bytes that were written."""


class EncoderMismatchError(ArtifactError):
    """An index and an encoder that do not belong together."""


class VersionNotFoundError(ArtifactError):
    """A version, or a published one, that is not there."""
