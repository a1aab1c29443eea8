"""Which release of the package this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def installed_version() -> str:
    """The release of the package, 0 where it was not installed."""
    try:
        return version("meet-retrieval")
    except PackageNotFoundError:
        return "0"
