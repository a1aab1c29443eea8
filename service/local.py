"""An index asked without a server: the same app, spoken to in memory."""

import asyncio
from pathlib import Path
from typing import TypeVar

import httpx

from service.app import create_app
from service.client import AsyncMeetClient, Call, Hit
from service.engine import SearchEngine
from service.settings import ServiceSettings

T = TypeVar("T")


class LocalIndex:
    """The published version of an index, asked by the client's own calls."""

    def __init__(self, root: Path) -> None:
        """Open it.

        Raises:
            ArtifactError: the index cannot be opened as it was written.
            CheckpointError: its encoder cannot be.
        """
        self.engine = SearchEngine.open(root)
        # The defaults alone: what the environment tells a server is not meant for a command.
        self.settings = ServiceSettings.model_construct(
            index=root, watch_seconds=0.0, shadow_share=0.0
        )

    def ask(self, call: Call[T]) -> T:
        """What a server of this index answers to the call.

        Raises:
            ClientError: what it answers instead.
        """
        return asyncio.run(self._ask(call))

    async def _ask(self, call: Call[T]) -> T:
        app = create_app(self.settings, self.engine)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            AsyncMeetClient("http://localhost", transport=transport) as client,
        ):
            return await client.ask(call)

    def picture_of(self, hit: Hit) -> str | None:
        """The file that a found image was built from; None for a caption or an archive's member."""
        source = self.engine.item(hit.id).image
        return str(source.path) if source is not None and source.length is None else None
