"""`meet-search` as a user runs it: in this process, in a pipe, and in a terminal."""

import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from service.client import MeetClient, SearchAnswer
from service.search_cli import main
from tests.service.client.stub import Reply, stubbed
from tests.service.world import World

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "service.search_cli"]
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEET_URL", "MEET_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def answer_of(capsys: Output, *arguments: str) -> SearchAnswer:
    """What the command prints for machines."""
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return SearchAnswer.model_validate_json(printed.out)


def refused(capsys: Output, *arguments: str) -> str:
    """The one sentence that the command ends with."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [sentence] = printed.err.splitlines()
    assert sentence.startswith("meet-search: ")
    return sentence


def test_a_text_prints_what_the_client_finds(capsys: Output, url: str) -> None:
    with MeetClient(url) as client:
        expected = client.search_text("a red dog", k=4, rerank="none", explain=True)
    flags = ("--url", url, "--k", "4", "--rerank", "none", "--explain")
    found = answer_of(capsys, "a red dog", *flags)
    assert found.hits == expected.hits
    assert found.rerank == "none"


def test_an_image_file_prints_captions(capsys: Output, url: str, world: World) -> None:
    path = world.image_path(9)
    with MeetClient(url) as client:
        expected = client.search_image(path)
    assert answer_of(capsys, str(path), "--url", url).hits == expected.hits
    assert answer_of(capsys, str(path), "--url", url, "--image").hits == expected.hits


def test_an_index_answers_like_its_server(
    capsys: Output, url: str, index_root: Path, world: World
) -> None:
    for query in ("a red dog", str(world.image_path(9))):
        on_server = answer_of(capsys, query, "--url", url, "--explain")
        in_index = answer_of(capsys, query, "--index", str(index_root), "--explain")
        assert in_index.hits == on_server.hits
        assert in_index.index_version == on_server.index_version


def test_a_flag_decides_what_a_query_is(
    capsys: Output, url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.directory)
    assert answer_of(capsys, "9.png", "--url", url).direction == "image-to-text"
    assert answer_of(capsys, "9.png", "--url", url, "--text").direction == "text-to-image"
    (world.directory / "dog").write_text("no picture, and not named like one")
    assert answer_of(capsys, "dog", "--url", url).direction == "text-to-image"
    assert "JPEG, PNG" in refused(capsys, "dog", "--url", url, "--image")


@pytest.mark.parametrize("query", ["gone.jpg", "long" * 5000 + ".png", "a\0b.png"])
def test_a_name_without_a_file_is_searched_as_words_and_said_so(capsys: Output, query: str) -> None:
    with stubbed() as stub:
        assert main([query, "--url", stub.url]) == 0
    assert json.loads(stub.asked[0].body)["query"] == query
    assert "there is no file" in capsys.readouterr().err


def test_the_environment_names_the_server_and_the_key(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stubbed() as stub, stubbed() as other:
        monkeypatch.setenv("MEET_URL", stub.url)
        monkeypatch.setenv("MEET_API_KEY", "secret-7")
        answer_of(capsys, "a dog")
        answer_of(capsys, "a dog", "--url", other.url)
    assert stub.asked[0].headers["x-api-key"] == "secret-7"
    assert len(stub.asked) == len(other.asked) == 1


def test_a_table_is_aligned_and_whole_where_no_terminal_is(capsys: Output) -> None:
    hits = [
        {"id": "beach-1", "rank": 0, "score": 0.53125, "image": "/items/a/image", "metadata": {}},
        {
            "id": "b", "rank": 1, "score": -0.25, "caption": "two children\non a  beach",
            "metadata": {}, "explanation": explanation(),
        },
    ]  # fmt: skip
    with stubbed(Reply(body=json.dumps(answer(hits)).encode())) as stub:
        assert main(["a dog", "--url", stub.url.replace("//", "//somebody:secret@")]) == 0
    printed = capsys.readouterr().out
    head, first, second, explained = printed.splitlines()
    assert head == "rank    score  id       found"
    assert first == f"   0   0.5312  beach-1  {stub.url}/items/a/image"
    assert second == "   1  -0.2500  b        two children on a beach"
    assert explained == (
        "      hamming_distance 3, pq_score 0.2500, consistency 0.1250, "
        "rank_after_hash 4, rank_after_pq 2, rank_after_rerank 1"
    )
    assert "secret" not in printed


def explanation() -> dict[str, float]:
    return {
        "hamming_distance": 3, "pq_score": 0.25, "consistency": 0.125,
        "rank_after_hash": 4, "rank_after_pq": 2, "rank_after_rerank": 1,
    }  # fmt: skip


def answer(hits: list[dict[str, object]]) -> dict[str, object]:
    return {
        "index_version": "v1", "direction": "image-to-text", "rerank": "none", "hits": hits,
        "milliseconds": {}, "degraded": [],
    }  # fmt: skip


def test_no_hits_are_said(capsys: Output) -> None:
    with stubbed(Reply(body=json.dumps(answer([])).encode())) as stub:
        assert main(["a dog", "--url", stub.url]) == 0
    assert capsys.readouterr().out == "no hits\n"


def test_an_index_shows_the_files_of_its_images(
    capsys: Output, index_root: Path, world: World
) -> None:
    assert main(["a red dog", "--index", str(index_root), "--k", "3"]) == 0
    for line in capsys.readouterr().out.splitlines()[1:]:
        numbers_and_id, _, path = line.partition(f"{world.directory}/")
        assert world.ids[int(path.removesuffix(".png"))] in numbers_and_id


FLAGS: dict[str, dict[str, object]] = {
    "--k 5": {"k": 5},
    "--offset 20": {"offset": 20},
    "--exact": {"exact": True},
    "--min-score 0.9": {"min_score": 0.9},
    "--collapse 3": {"collapse": 3},
    "--minus cats --minus dogs": {"minus": ["cats", "dogs"]},
    "--plus grass": {"plus": ["grass"]},
    "--why-not beach-1": {"why_not": ["beach-1"]},
    "--filter year>=2020 --filter year<2025": {"filter": {"year": {"gte": 2020, "lt": 2025}}},
    "--filter licence=CC0": {"filter": {"licence": {"eq": "CC0"}}},
    "--filter a=1 --filter a=true --filter a=x=y": {"filter": {"a": {"in": [1, True, "x=y"]}}},
    '--filter n="5" --filter m<=1e3 --filter o=NaN': {
        "filter": {"n": {"eq": "5"}, "m": {"lte": 1000.0}, "o": {"eq": "NaN"}}
    },
}


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_become_the_fields_of_the_request(flags: str) -> None:
    with stubbed() as stub:
        assert main(["a dog", "--url", stub.url, *flags.split()]) == 0
    assert json.loads(stub.asked[0].body) == {"query": "a dog", "explain": False, **FLAGS[flags]}


def test_more_like_an_item_is_asked_for_without_a_query(
    capsys: Output, url: str, index_root: Path
) -> None:
    flags = ("--similar", "photo-07", "--k", "4", "--minus", "a bus")
    with MeetClient(url) as client:
        expected = client.similar("photo-07", k=4, minus=["a bus"])
    assert answer_of(capsys, *flags, "--url", url).hits == expected.hits
    assert answer_of(capsys, *flags, "--index", str(index_root)).hits == expected.hits
    captions = answer_of(capsys, *flags, "--to", "text", "--index", str(index_root))
    assert captions.direction == "image-to-text"


def test_an_item_that_was_expected_is_told_of(capsys: Output, url: str) -> None:
    assert main(["a red dog", "--url", url, "--k", "60", "--why-not", "photo-07"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("photo-07: ")
    assert ", rank_after_hash " in last


def test_what_machines_get_is_all_that_the_server_said(capsys: Output) -> None:
    hits = [{"id": "ä", "rank": 0, "score": 0.5, "metadata": {"a": None}, "hue": {"red": [1]}}]
    told = {**answer(hits), "newer": None}
    with stubbed(Reply(body=json.dumps(told).encode())) as stub:
        assert main(["a dog", "--url", stub.url, "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == told
    assert '"ä"' in printed


def test_bad_input_is_one_sentence(
    capsys: Output, url: str, tmp_path: Path, vectors_root: Path
) -> None:
    assert "256 words" in refused(capsys, "word " * 300, "--url", url)
    assert "k: " in refused(capsys, "a dog", "--url", url, "--k", "0")
    assert "gone.jpg" in refused(capsys, str(tmp_path / "gone.jpg"), "--image", "--url", url)
    assert "http://host:port" in refused(capsys, "a dog", "--url", "localhost:8000")
    assert "a time-out" in refused(capsys, "a dog", "--url", url, "--timeout", "0")
    assert str(tmp_path) in refused(capsys, "a dog", "--index", str(tmp_path))
    assert "unsupported_input" in refused(capsys, "a dog", "--index", str(vectors_root))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert f"no answer from {nobody}: " in refused(capsys, "a dog", "--url", nobody)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "query"),
        (["a dog", "--similar", "b"], "a dog"),
        (["a dog", "--to", "text"], "--similar"),
        (["--similar", "b", "--text"], "--text"),
        (["a dog", "--filter", "year"], "field>=value"),
        (["a dog", "--filter", "=3"], "field>=value"),
        (["a", "dog"], "dog"),
        (["a dog", "--k", "ten"], "--k"),
        (["a dog", "--rerank", "magic"], "magic"),
        (["a dog", "--text", "--image"], "--image"),
        (["a dog", "--url", "http://a", "--index", "b"], "--index"),
    ],
)
def test_a_bad_flag_is_one_sentence(capsys: Output, arguments: list[str], words: str) -> None:
    assert words in refused(capsys, *arguments)


def test_a_pipe_that_closes_early_is_no_error(url: str) -> None:
    """The reader is gone before the first byte: that is what `| true` does at its worst."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        ended = subprocess.run(
            [*COMMAND, "a red dog", "--url", url],
            cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


def in_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that the command prints into a terminal of so many columns."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # Readline, where it is loaded, puts a width of its own into what children inherit.
    command = ["env", "-u", "COLUMNS", *COMMAND, *arguments]
    subprocess.run(command, cwd=ROOT, stdout=terminal, check=True)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(screen, 65536)
        except OSError:  # the end, once nobody holds the terminal any more
            os.close(screen)
            return shown.decode().split("\r\n")[:-1]


def test_a_terminal_is_never_wider_than_it_is() -> None:
    hits = [
        {
            "id": f"beach-{rank}", "rank": rank, "score": 0.5, "metadata": {},
            "caption": "children on a beach " * 9, "explanation": explanation(),
        }
        for rank in range(2)
    ]  # fmt: skip
    with stubbed(Reply(body=json.dumps(answer(hits)).encode())) as stub:
        head, first, *others = in_terminal(50, "a dog", "--explain", "--url", stub.url)
    assert head == "rank   score  id       found"
    assert first == "   0  0.5000  beach-0  children on a beach childr…"
    assert len(first) == 50
    assert others[0].startswith("      hamming_distance 3,")
    assert max(map(len, others)) <= 50
    assert not any("\x1b" in line for line in others)
