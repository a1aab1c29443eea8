import shutil
import socket
from pathlib import Path

import pytest

from model.core.errors import EncoderMismatchError
from model.encoders.opening import open_encoder
from service.cli import listen, main
from service.engine import SearchEngine
from service.greeting import greeting
from service.settings import ServiceSettings, unknown_variables
from tests.service.world import make_encoder


def refused(capfd: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one sentence that a start with these flags ends with."""
    assert main([*flags, "--port", "0"]) == 2
    output = capfd.readouterr()
    assert output.out == ""
    [sentence] = output.err.splitlines()
    assert sentence.startswith("meet-serve: ")
    return sentence


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_missing_index_is_one_sentence(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert str(tmp_path / "nothing") in refused(capfd, "--index", str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("no index")
    assert str(tmp_path / "file") in refused(capfd, "--index", str(tmp_path / "file"))
    assert "--index" in refused(capfd)


@pytest.mark.parametrize(
    "name",
    [
        "image/embeddings.npy",
        "text/hash.faiss",
        "manifest.json",
        "heads.safetensors",
        "bank/text.npy",
    ],
)
def test_a_flipped_byte_is_one_sentence_that_names_the_file(
    capfd: pytest.CaptureFixture[str], copied_root: Path, name: str
) -> None:
    path = copied_root / "versions" / "v1" / name
    flip(path, path.stat().st_size // 2)
    assert name in refused(capfd, "--index", str(copied_root))


def test_an_encoder_in_place_of_the_built_one_is_one_sentence(
    capfd: pytest.CaptureFixture[str], copied_root: Path, tmp_path: Path
) -> None:
    [snapshot] = (copied_root / "encoders").iterdir()
    other = make_encoder(tmp_path / "other", seed=8)
    shutil.rmtree(snapshot)
    shutil.copytree(other, snapshot)
    assert snapshot.name in refused(capfd, "--index", str(copied_root))


def test_an_engine_refuses_an_encoder_that_the_index_was_not_built_with(
    engine: SearchEngine, tmp_path: Path
) -> None:
    other = open_encoder(make_encoder(tmp_path / "other", seed=8))
    with pytest.raises(EncoderMismatchError, match=r"tiny-1.*tiny-8"):
        SearchEngine(engine.artifact, other, engine.cascade)


def test_a_device_that_is_not_there_is_one_sentence(
    capfd: pytest.CaptureFixture[str], index_root: Path
) -> None:
    assert "abacus" in refused(capfd, "--index", str(index_root), "--device", "abacus")


def test_a_taken_port_is_one_sentence(capfd: pytest.CaptureFixture[str], index_root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--index", str(index_root), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--redis-url", "http://:secret@localhost"), "--redis-url"),
        (("--redis-url", "redis://:secret@localhost:none"), "--redis-url"),
        (("--host", "no such host"), "no such host"),
    ],
)
def test_a_bad_flag_is_one_sentence_without_secrets(
    capfd: pytest.CaptureFixture[str], index_root: Path, flags: tuple[str, ...], named: str
) -> None:
    sentence = refused(capfd, "--index", str(index_root), *flags)
    assert named in sentence
    assert "secret" not in sentence


def test_a_bad_environment_is_one_sentence(
    capfd: pytest.CaptureFixture[str], index_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEET_LIMITS__MAX_K", "0")
    assert "MEET_LIMITS__MAX_K" in refused(capfd, "--index", str(index_root))


def test_a_setting_without_a_flag_is_named_by_its_variable(
    capfd: pytest.CaptureFixture[str],
    index_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    monkeypatch.setenv("MEET_ADMIN_KEYS_FILE", str(tmp_path / "keys"))
    sentence = refused(capfd, "--index", str(index_root))
    assert sentence.startswith("meet-serve: MEET_ADMIN_KEYS_FILE: ")
    assert "--admin" not in sentence


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://localhost:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_a_greeting_gives_an_address_to_open(engine: SearchEngine, host: str, url: str) -> None:
    first, *commands = greeting(engine, host, 8000).splitlines()
    assert f" at {url} " in first
    assert all(f" {url}/search/" in command for command in commands)


def test_a_greeting_asks_nothing_that_the_index_cannot_answer(
    vectors_root: Path, images_root: Path
) -> None:
    _, by_text, by_image = greeting(SearchEngine.open(vectors_root), "h", 1).splitlines()
    assert "/search/text-to-image" in by_text
    assert '{"id": "street/corner 7 #2#0", "k": 3}' in by_text
    assert "/search/image-to-text" in by_image
    _, by_text, by_image = greeting(SearchEngine.open(images_root), "h", 1).splitlines()
    assert "/search/text-to-image" in by_text
    assert by_image == "curl -s http://h:1/index"


def test_flags_come_before_the_environment_and_that_before_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEET_INDEX", "from-environment")
    monkeypatch.setenv("MEET_PORT", "9001")
    monkeypatch.setenv("MEET_LIMITS__MAX_K", "50")
    settings = ServiceSettings(port=9002)
    assert settings.index == Path("from-environment")
    assert settings.port == 9002
    assert settings.limits.max_k == 50
    assert settings.host == "127.0.0.1"


def test_connections_send_at_once_what_they_have() -> None:
    listener = listen(ServiceSettings(index=Path("somewhere"), port=0))
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as server:
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_variables_that_are_no_settings_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ["MEET_SEARCH_KEYS", "MEET_LIMITS__MAX_K", "MEET_URL", "MEET_API_KEY", "PATH"]
    linked = ["MEET_SERVICE_HOST", "MEET_SERVICE_PORT_HTTP", "MEET_PORT_8000_TCP_ADDR"]
    wrong = ["MEET_ADMIN_KEY", "MEET_LIMITS__MAX_KK", "MEET_LIMTS__MAX_K"]
    assert unknown_variables([*known, *wrong, *linked]) == wrong
    monkeypatch.setenv("MEET_ADMIN_KEY", "x")
    assert main(["--index", str(tmp_path)]) == 2
    assert "MEET_ADMIN_KEY is no setting" in capsys.readouterr().err
