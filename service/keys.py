"""API keys: where they come from, and whether one is among them.

What is kept of a key is a keyed digest, so that nothing here can show one: no repr, no log, no
dump of an object.
"""

import hmac
import logging
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from time import monotonic

from model.reverse_lists.breaker import Clock

COMMENT = "#"
LOOK_SECONDS = 1.0  # how old what is known of the file may be
FINGERPRINT_BYTES = 4
_PERSON = b"meet-key"

log = logging.getLogger(__name__)


def listed_keys(text: str) -> list[str]:
    """The keys of a comma list.

    Raises:
        ValueError: a key that no header can carry; it is not shown.
    """
    return _checked(text.split(","))


def read_keys(path: Path) -> list[str]:
    """The keys of a file, one a line; empty lines and those that begin with `#` hold none.

    Raises:
        ValueError: the file cannot be read, or a key is one that no header can carry.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} needs to be UTF-8 text") from error
    return _checked(line for line in lines if not line.lstrip().startswith(COMMENT))


def fingerprint(key: bytes) -> str:
    """What logs call a key: a few digits of its digest."""
    return blake2b(key, digest_size=FINGERPRINT_BYTES, person=_PERSON).hexdigest()


class KeyRing:
    """The keys of one kind: those given, and those of a file that is read again when it changes.

    A file that cannot be read any more changes nothing; one without keys closes the door.
    """

    def __init__(
        self, given: Iterable[str] = (), file: Path | None = None, clock: Clock = monotonic
    ) -> None:
        """Take the keys and the file, which is read now.

        Raises:
            ValueError: the file cannot be read.
        """
        self._salt = os.urandom(32)
        self._given = [self._digest(key.encode()) for key in given]
        self._file, self._clock = file, clock
        self._seen, self._looked = _state(file), clock()
        self._filed = self._of_file()

    @property
    def guards(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self._given) or self._file is not None

    def admits(self, key: bytes) -> bool:
        """Whether the key is one of these, in a time that does not tell which or how nearly."""
        self._look()
        digest, found = self._digest(key), False
        for one in (*self._given, *self._filed):
            found |= hmac.compare_digest(one, digest)
        return found

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._salt, key, "sha256")

    def _of_file(self) -> list[bytes]:
        if self._file is None:
            return []
        return [self._digest(key.encode()) for key in read_keys(self._file)]

    def _look(self) -> None:
        """Read the file again if it is another one than before."""
        if self._file is None or self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        if (state := _state(self._file)) == self._seen:
            return
        self._seen = state
        try:
            self._filed = self._of_file()
        except ValueError as error:
            log.warning("API keys stay as they were: %s", error)
        else:
            log.info("%d API keys were read from %s", len(self._filed), self._file)


def _checked(keys: Iterable[str]) -> list[str]:
    stripped = [part for key in keys if (part := key.strip())]
    if not all(key.isascii() and key.isprintable() and " " not in key for key in stripped):
        raise ValueError("an API key needs to be visible ASCII without spaces")
    return stripped


def _state(file: Path | None) -> tuple[int, ...]:
    """What changes with a file; nothing where there is none."""
    try:
        found = None if file is None else file.stat()
    except OSError:
        return ()
    return () if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
