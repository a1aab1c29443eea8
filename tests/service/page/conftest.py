"""A real server, a real browser, and pages that must not report an error of their own."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from benchmarks.chromium import chromium_path, open_chromium
from service.app import create_app
from service.engine import SearchEngine
from service.limits import Limits
from service.settings import ServiceSettings
from tests.service.world import CAPTIONS_EACH, World, make_index

LIMITS = Limits(max_body_bytes=200_000, max_k=1000)
WAIT_MS = 60_000
HOSTILE = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'
Serve = Callable[[SearchEngine], str]
NewPage = Callable[..., Page]


@contextmanager
def serving(engine: SearchEngine) -> Iterator[str]:
    """The URL of a server in a thread of this process."""
    app = create_app(ServiceSettings(index=engine.artifact.root, limits=LIMITS), engine)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Servers by engine, started once a module."""
    running: dict[int, tuple[str, AbstractContextManager[str]]] = {}

    def url_of(engine: SearchEngine) -> str:
        if id(engine) not in running:
            server = serving(engine)
            running[id(engine)] = server.__enter__(), server
        return running[id(engine)][0]

    yield url_of
    for _, server in running.values():
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def site(serve: Serve, engine: SearchEngine) -> str:
    return serve(engine)


@pytest.fixture(scope="session")
def images_engine(images_root: Path) -> SearchEngine:
    return SearchEngine.open(images_root)


@pytest.fixture(scope="session")
def vectors_engine(vectors_root: Path) -> SearchEngine:
    return SearchEngine.open(vectors_root)


@pytest.fixture(scope="session")
def hostile_engine(
    tmp_path_factory: pytest.TempPathFactory, world: World, encoder_source: Path
) -> SearchEngine:
    """An index whose ids and captions are markup that would run, were it taken for markup."""
    ids = tuple(f"{HOSTILE}{row}" for row in range(len(world.ids)))
    captions = tuple(f"{HOSTILE} {row}" for row in range(CAPTIONS_EACH * len(ids)))
    root = tmp_path_factory.mktemp("hostile") / "root"
    return SearchEngine.open(
        make_index(root, replace(world, ids=ids, captions=captions), encoder_source)
    )


# One browser a module: Playwright's loop runs in the main thread for as long as it is open, where
# no asynchronous test could start a second one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        pytest.skip("no chromium on the PATH")
    expect.set_options(timeout=WAIT_MS)
    with open_chromium() as opened:
        yield opened


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Pages of fresh profiles; a script's error or a broken content policy fails the test."""
    reported: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # What the browser says of an answer that is an error is what some tests are about.
        if message.type == "error" and "Failed to load resource" not in message.text:
            reported.append(message.text)

    def opened(url: str, **profile: object) -> Page:
        # Nothing moves by itself: a browser without a GPU draws every frame on the server's cores.
        context = browser.new_context(reduced_motion="reduce", **profile)  # type: ignore[arg-type]
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: reported.append(str(error)))
        page.on("console", heard)
        page.goto(url)
        return page

    yield opened
    for context in browser.contexts:
        context.close()
    assert reported == []


@pytest.fixture
def api(site: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site) as client:
        yield client
