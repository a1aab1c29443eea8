"""What can be wrong with a request as such; errors of its content come from the core's tree.

InputError
├── BrokenJsonError            a body that is no JSON
├── BrokenMsgpackError         a body that is no msgpack
├── BrokenFormError            a body that is no multipart form
├── InvalidRequestError        fields that break a rule, each named
├── BodyTooLargeError          more bytes than one request may send
├── UnsupportedMediaTypeError  a body of a kind that the route does not read
├── NotAcceptableError         an answer wanted in a form that is not given
├── MissingModalityError       a search for items of a modality that the gallery lacks
├── NoImageError               an item without a picture to show
├── NoPairsError               an evaluation of a gallery whose captions belong to no image
└── SlowBodyError              a body that did not arrive in time
UnauthorizedError              a key that is missing or not known
ForbiddenError                 a route that no key opens, for none is set
NotReadyError                  the probe query failed or took too long
StuckError                     the device's thread has not come back for too long
VersionError                   a version of the index that is not served now
├── IndexRefusedError          it cannot be opened, or answers no probe
├── IndexReadOnlyError         the index cannot be told to publish it
├── IndexBusyError             another process is writing to the index
└── IndexReplacedError         another one took its place while it was evaluated
EvaluationRunningError         an evaluation while another one runs
DeadlineError                  a search that could not be answered in its time
OverloadedError                more than the service can do now
├── QueueFullError             as many searches or bytes wait as may
├── RateLimitedError           more requests of one caller than it may send
├── StoppingError              the service answers what it has accepted, and nothing new
└── DeviceMemoryError          a search alone that the device has no memory for
"""

from collections.abc import Sequence

from model.core.errors import InputError, MeetError
from model.core.types import Frozen


class Violation(Frozen):
    """One broken rule: which field, what it has to be, and what was given."""

    field: str
    rule: str
    value: str


class BrokenJsonError(InputError):
    """A body that is no JSON."""


class BrokenMsgpackError(InputError):
    """A body that is no msgpack."""


class BrokenFormError(InputError):
    """A body that is no multipart form."""


class InvalidRequestError(InputError):
    """Fields that break a rule, each named with its rule and value."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Keep the violations; the message is all of them in one line."""
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.rule}, got {v.value}" for v in violations))


class BodyTooLargeError(InputError):
    """More bytes than one request may send."""


class UnsupportedMediaTypeError(InputError):
    """A body of a kind that the route does not read."""


class NotAcceptableError(InputError):
    """An answer wanted in a form that is not given."""


class MissingModalityError(InputError):
    """A search for items of a modality that the gallery lacks."""


class NoImageError(InputError):
    """An item without a picture to show."""


class NoPairsError(InputError):
    """An evaluation of a gallery whose captions belong to no image."""


class SlowBodyError(InputError):
    """A body that did not arrive in time."""


class VersionError(MeetError):
    """A version of the index that is not served now."""


class IndexRefusedError(VersionError):
    """A version that cannot be opened, or answers no probe."""


class IndexReadOnlyError(VersionError):
    """An index that cannot be told to publish a version."""


class IndexBusyError(VersionError):
    """An index that another process is writing to."""


class IndexReplacedError(VersionError):
    """A version that another one took the place of while it was evaluated."""


class EvaluationRunningError(MeetError):
    """An evaluation while another one runs."""


class UnauthorizedError(MeetError):
    """A key that is missing or not known."""

    def __init__(self, message: str, *, given: bool) -> None:
        """Say whether a key was given."""
        super().__init__(message)
        self.given = given


class ForbiddenError(MeetError):
    """A route that no key opens, for none is set."""


class StuckError(MeetError):
    """The device's thread has not come back for too long."""


class DeadlineError(MeetError):
    """A search that could not be answered in its time."""


class NotReadyError(MeetError):
    """The probe query failed or took too long."""


class OverloadedError(MeetError):
    """More than the service can do now; later it may."""


class QueueFullError(OverloadedError):
    """As many searches or bytes wait as may."""


class RateLimitedError(OverloadedError):
    """More requests of one caller than it may send."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        """Say after how many seconds one more would be answered."""
        super().__init__(message)
        self.retry_seconds = retry_seconds


class StoppingError(OverloadedError):
    """The service answers what it has accepted, and nothing new."""


class DeviceMemoryError(OverloadedError):
    """A search alone that the device has no memory for."""
