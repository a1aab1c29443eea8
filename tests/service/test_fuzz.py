"""Requests made up from the server's own description: no 5xx, no answer that it does not list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.conftest import ADMIN_KEY, Launcher

EXAMPLES = 20  # a route
ROOT = Path(__file__).resolve().parents[2]
# What the checks must hold for: answers are documented, in status, type, headers and shape.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def test_made_up_requests_get_documented_answers(
    launcher: Launcher, copied_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEET_ADMIN_KEYS", ADMIN_KEY)
    server = launcher.start(copied_root).ready()
    found = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES)),
            *("--seed", "1", "--header", f"X-API-Key: {ADMIN_KEY}"),
            *("--phases", "examples,coverage,fuzzing", "--no-color"),
            *("--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.service.fuzzing", "PYTHONPATH": str(ROOT)},  # noqa: TID251 - of a process
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-20_000:]
