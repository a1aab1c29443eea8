"""A line in the log for each request, and one more for each search that took long."""

import logging
from typing import Any

from starlette.types import Scope

from service.access import client_of
from service.metrics import method_of, route_of
from service.notes import Notes
from service.settings import ServiceSettings

PROBES = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds, for ever
BAD_REQUEST = 400

requests = logging.getLogger("service.requests")
slow = logging.getLogger("service.slow")


class RequestLog:
    """Writes both kinds of lines; the words of a query only where the settings say so."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._slow_seconds, self._queries = settings.slow_query_seconds, settings.log_queries

    def answered(self, scope: Scope, noted: Notes, status: int, seconds: float) -> None:
        """Tell of one request that was answered."""
        route = route_of(scope)
        quiet = route in PROBES and status < BAD_REQUEST
        level = logging.DEBUG if quiet else logging.INFO
        if requests.isEnabledFor(level):
            method = method_of(scope)
            fields = self._fields(scope, noted, status, seconds) | {"method": method}
            requests.log(level, "%s %s %d", method, route, status, extra={"fields": fields})
        if noted.searched is not None and seconds >= self._slow_seconds:
            self._tell_slow(noted, seconds)

    def _fields(self, scope: Scope, noted: Notes, status: int, seconds: float) -> dict[str, Any]:
        return {
            "request_id": noted.request_id,
            "route": route_of(scope),
            "status": status,
            "seconds": round(seconds, 6),
            "index_version": noted.index_version,
            "code": scope.get("problem_code"),
            "key": noted.key,
            "client": client_of(scope),
        }

    def _tell_slow(self, noted: Notes, seconds: float) -> None:
        searched = noted.searched
        if searched is None:
            return
        options = searched.options
        fields = {
            "request_id": noted.request_id,
            "seconds": round(seconds, 6),
            "index_version": noted.index_version,
            "direction": searched.direction.value,
            "k": options.k,
            "candidates": options.budget.model_dump(),
            "rerank": searched.rerank,
            "degraded": list(searched.degraded),
            "batch_size": searched.batch_size,
            "milliseconds": {name: round(ms, 3) for name, ms in searched.milliseconds.items()},
        }
        if self._queries and searched.text is not None:
            fields["query"] = searched.text
        slow.warning("a search took %.3f s", seconds, extra={"fields": fields})
