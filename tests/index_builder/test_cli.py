import json
from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import COMMANDS, main
from index_builder.options import BuildOptions, parse_size
from model.artifact.store import VersionStore
from model.core.errors import InputError

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def build(gallery: Path, root: Path, *flags: str) -> int:
    return main(["--gallery", str(gallery), "--encoder", "none", "--out", str(root), *flags])


def sentences(stderr: str) -> list[str]:
    """The lines that are no progress bar: bars begin with a carriage return."""
    return [line for line in stderr.split("\n") if line and "\r" not in line]


def test_a_second_build_of_the_same_is_not_made(
    vectors: Path, root: Path, capsys: Captured
) -> None:
    assert build(vectors, root) == 0
    version = VersionStore(root).current()
    assert f"published {version}" in capsys.readouterr().out
    assert build(vectors, root, "--shard-size", "4096") == 0
    assert capsys.readouterr().out == f"already built as {version}\n"
    assert VersionStore(root).names() == [version]


@pytest.mark.parametrize("flags", [("--z", "7"), ("--bits", "32"), ("--seed", "1")])
def test_other_options_make_another_version(
    vectors: Path, root: Path, flags: tuple[str, str]
) -> None:
    assert build(vectors, root) == build(vectors, root, *flags) == 0
    assert len(VersionStore(root).names()) == 2


def test_a_changed_vector_makes_another_version(vectors: Path, root: Path) -> None:
    build(vectors, root)
    array = np.load(vectors / "image.npy")
    array[3, 3] += 0.5
    np.save(vectors / "image.npy", array)
    build(vectors, root)
    assert len(VersionStore(root).names()) == 2


def test_the_last_three_versions_stay(vectors: Path, root: Path, capsys: Captured) -> None:
    for z in range(2, 7):
        build(vectors, root, "--z", str(z))
    capsys.readouterr()
    assert main(["list", "--index", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert [line.endswith("(current)") for line in lines] == [False, False, True]


def test_an_older_version_can_be_activated(vectors: Path, root: Path, capsys: Captured) -> None:
    build(vectors, root)
    build(vectors, root, "--z", "9")
    old = VersionStore(root).names()[0]
    assert main(["activate", "--index", str(root), old]) == 0
    assert VersionStore(root).current() == old
    assert main(["activate", "--index", str(root), "v0"]) == 2
    assert "has no version 'v0'" in capsys.readouterr().err
    assert VersionStore(root).current() == old


def test_verify_names_the_broken_file(vectors: Path, root: Path, capsys: Captured) -> None:
    build(vectors, root)
    assert main(["verify", "--index", str(root)]) == 0
    assert "all right" in capsys.readouterr().out
    path = next(root.rglob("image/embeddings.npy"))
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    assert main(["verify", "--index", str(root)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"meet-build: {path}, chunk 0 ")
    assert error.count("\n") == 1


def test_inspect_says_what_it_holds_and_costs(vectors: Path, root: Path, capsys: Captured) -> None:
    build(vectors, root)
    capsys.readouterr()
    assert main(["inspect", "--index", str(root)]) == 0
    text = capsys.readouterr().out
    assert "60 image, 120 text, 0 records skipped" in text
    assert main(["inspect", "--index", str(root), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["counts"] == {"image": 60, "text": 120}
    version = root / "versions" / content["version"]
    files = [path for path in version.rglob("*") if path.is_file()]
    memory = content["memory"]
    assert memory["disk"] == sum(path.stat().st_size for path in files)
    hot = [path for path in files if path.suffix in {".faiss", ".safetensors"}]
    assert memory["anonymous"] == sum(path.stat().st_size for path in hot)
    assert memory["anonymous"] + memory["mapped"] < memory["disk"]
    assert set(content["seconds"]) >= {"encode", "codes", "lists", "quality"}


def test_evaluate_repeats_what_the_build_measured(
    vectors: Path, root: Path, capsys: Captured
) -> None:
    build(vectors, root)
    capsys.readouterr()
    assert main(["evaluate", "--index", str(root), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    version = VersionStore(root).current()
    assert version is not None
    assert again == VersionStore(root).fact(version, "quality")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--z", "0"), "--z: "),
        (("--z", "100000000000"), "--z: Input should be less than or equal to 4096"),
        (("--z", "many"), "argument --z: invalid int value: 'many'"),
        (("--seed", "-1"), "--seed: "),
        (("--seed", str(2**31)), "--seed: "),
        (("--bits", "0"), "--bits: "),
        (("--bits", "-8"), "--bits: "),
        (("--bits", "100000000000"), "--bits: "),
        (("--lists-budget", "9" * 400), "a size is a number and a unit such as 4GiB"),
        (("--bank-size", "-1"), "--bank-size: "),
        (("--max-bad", "-1"), "--max-bad: "),
        (("--bits", "12"), "multiple of 8"),
        (("--lists-budget", "much"), "a size is a number and a unit such as 4GiB, got 'much'"),
        (("--bank", "nowhere:train"), "nowhere"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_a_bad_flag_is_one_sentence_and_exit_2(
    vectors: Path, root: Path, capsys: Captured, flags: tuple[str, str], message: str
) -> None:
    assert build(vectors, root, *flags) == 2
    (line,) = sentences(capsys.readouterr().err)
    assert message in line
    assert VersionStore(root).names() == []


@pytest.mark.parametrize(
    "flags", [("--sample", "0"), ("--sample", "-1"), ("--seed", "-1"), ("--seed", str(2**31))]
)
def test_a_bad_flag_of_evaluate_is_one_sentence_and_exit_2(
    vectors: Path, root: Path, capsys: Captured, flags: tuple[str, str]
) -> None:
    build(vectors, root)
    capsys.readouterr()
    assert main(["evaluate", "--index", str(root), *flags]) == 2
    (line,) = sentences(capsys.readouterr().err)
    assert line.startswith(f"meet-build: {flags[0]}: ")


def test_a_broken_manifest_is_told_in_one_sentence_and_built_again(
    vectors: Path, root: Path, capsys: Captured
) -> None:
    build(vectors, root)
    path = next(root.rglob("manifest.json"))
    content = json.loads(path.read_text())
    del content["gallery"], content["layout"], content["build_key"]
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["inspect", "--index", str(root)]) == 2
    (line,) = sentences(capsys.readouterr().err)
    assert line == f"meet-build: {path} is no manifest: build_key: Field required"
    assert build(vectors, root) == 0
    assert len(VersionStore(root).names()) == 2


def test_a_missing_gallery_makes_no_index(tmp_path: Path, root: Path, capsys: Captured) -> None:
    assert build(tmp_path / "nowhere", root) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not root.exists()


def test_a_missing_encoder_is_named(vectors: Path, root: Path, capsys: Captured) -> None:
    flags = ["--gallery", str(vectors), "--encoder", str(root / "clip"), "--out", str(root)]
    assert main(flags) == 2
    assert "clip" in capsys.readouterr().err


def holding_nan(folder: Path) -> Path:
    folder.mkdir()
    rows = np.ones((5, 8), np.float32)
    rows[3, 0] = np.nan
    np.save(folder / "image.npy", rows)
    return folder


@pytest.mark.parametrize("flags", [(), ("--device", "abacus")])
def test_a_refused_build_leaves_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    gallery = holding_nan(tmp_path / "gallery")
    before = sorted(tmp_path.rglob("*"))
    assert build(gallery, tmp_path / "deep" / "root", *flags) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refused_build_leaves_a_folder_that_was_there(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "notes").write_text("mine")
    assert build(holding_nan(tmp_path / "gallery"), root) == 2
    assert (root / "notes").read_text() == "mine"
    assert not (root / "versions").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_where_the_index_goes_is_refused_by_its_rule(
    vectors: Path, tmp_path: Path, capsys: Captured, below: str
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert build(vectors, file / below) == 2
    (line,) = sentences(capsys.readouterr().err)
    assert line.startswith("meet-build: --out needs to be a folder, got ")
    assert line.endswith(f"the file {file}")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in {"warm", "activate"}])
def test_a_root_that_is_no_folder_is_refused_by_its_rule(
    tmp_path: Path, capsys: Captured, command: str
) -> None:
    (tmp_path / "file").write_text("no index")
    for name, said in (("nowhere", "not there"), ("file", "a file, no folder")):
        assert main([command, "--index", str(tmp_path / name)]) == 2
        (line,) = sentences(capsys.readouterr().err)
        assert (
            line == f"meet-build: an index is a folder that was built, {tmp_path / name} is {said}"
        )


def test_a_folder_without_versions_lists_none(tmp_path: Path, capsys: Captured) -> None:
    assert main(["list", "--index", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no versions\n"


def test_two_builds_at_once_do_not_mix(vectors: Path, root: Path, capsys: Captured) -> None:
    with VersionStore(root).lock():
        assert build(vectors, root) == 2
    assert "is writing to" in capsys.readouterr().err
    assert build(vectors, root) == 0


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5k", 1500), ("12", 12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "1.2.3k", "4 elephants", "-1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a size is a number"):
        parse_size(text)


@pytest.mark.parametrize(("n_records", "allowed"), [(5, 10), (1000, 10), (5000, 50)])
def test_one_per_cent_may_be_bad_but_at_least_ten(
    tmp_path: Path, n_records: int, allowed: int
) -> None:
    options = BuildOptions(gallery="g", encoder="none", out=tmp_path)
    assert options.allowed_bad(n_records) == allowed
    assert options.model_copy(update={"max_bad": 0}).allowed_bad(n_records) == 0
