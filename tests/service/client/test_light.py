import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    "torch", "faiss", "transformers", "fastapi", "starlette", "uvicorn", "redis", "pyarrow",
    "safetensors", "prometheus_client", "PIL",
}  # fmt: skip
SETTINGS = {"pydantic_settings", "dotenv"}
# With the URL of nobody: what is imported before the first request is imported by then.
ASKED = "from service.search_cli import main; main(['a dog', '--url', 'ftp://nobody'])"


@pytest.mark.parametrize(
    ("statement", "more"), [("import service.client", SETTINGS), (ASKED, set())]
)
def test_asking_a_server_imports_nothing_heavy(statement: str, more: set[str]) -> None:
    listing = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    output = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{listing}"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    imported = set(output.split())
    assert {"service", "httpx", "pydantic"} <= imported
    assert not imported & (HEAVY | more)
