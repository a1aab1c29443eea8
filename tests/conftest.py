"""What every test may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent

# A shared machine may be slow at any moment: that is no finding.
settings.register_profile("meet", deadline=None)
settings.load_profile("meet")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-dir",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with flickr8k/ and f8k_precomp/ for the tests marked data",
    )


@pytest.fixture(scope="session")
def data_dir(pytestconfig: pytest.Config) -> Path:
    """The folder with the real data sets; without it the test is skipped."""
    folder: Path = pytestconfig.getoption("--data-dir")
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: give one with --data-dir")
    return folder


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A redis-server of the test's own; without the binary the test is skipped."""
    if not RedisServer.installed():
        pytest.skip("no redis-server on the PATH")
    server = RedisServer()
    yield server
    server.close()
