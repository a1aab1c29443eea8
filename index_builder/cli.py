"""`meet-build`: build an index, look at it, check it, switch between its versions."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

from index_builder.options import BuildOptions, EvaluateOptions, ListsChoice, parse_size
from model.artifact.store import VersionStore
from model.core.command import Options, Parser, checked, exit_status, require_folder
from model.core.errors import ArtifactError

LISTED = 10

Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 and one sentence on stderr where it cannot be done."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return exit_status("meet-build", lambda: _run(given), go_on="run it again to go on")


def _run(given: Sequence[str]) -> None:
    if given and given[0] in COMMANDS:
        COMMANDS[given[0]](_command_parser(given[0]).parse_args(given[1:]))
    else:
        _build(_build_parser().parse_args(given))


def _build(arguments: argparse.Namespace) -> None:
    from index_builder.planning import make_plan

    began, options = perf_counter(), _checked(BuildOptions, vars(arguments))
    require_folder("out", options.out)
    plan, store = make_plan(options), VersionStore(options.out)
    with store.lock():
        if _is_current(store, plan.key):
            _say(f"already built as {store.current()}")
            return
        from index_builder.pipeline import build_version

        manifest = build_version(plan, store)
    from index_builder.inspection import describe

    _say(f"published {manifest.version} in {perf_counter() - began:.1f} s")
    _say_skipped(store, manifest.version)
    _say(describe(store))


def _is_current(store: VersionStore, key: str) -> bool:
    """Whether the published version is of this key; one that cannot be read is built again."""
    current = store.current()
    if current is None or current not in store.names():
        return False
    try:
        return store.fact(current, "build_key") == key
    except ArtifactError:
        return False


def _say_skipped(store: VersionStore, version: str) -> None:
    path = store.layout.version(version).report
    report = json.loads(path.read_bytes())
    skipped = {name: report[name]["skipped"] for name in ("gallery", "bank") if report[name]}
    for name, listed in skipped.items():
        if listed:
            _say(f"{len(listed)} records of the {name} could not be read, skipped ({path}):")
        for one in listed[:LISTED]:
            _say(f"  {one['source'] or one['id']}: {one['reason']}")


def _inspect(arguments: argparse.Namespace) -> None:
    from index_builder.inspection import describe, inspect

    store = VersionStore(arguments.index)
    if arguments.json:
        _say(json.dumps(inspect(store, arguments.version), indent=2))
    else:
        _say(describe(store, arguments.version))


def _verify(arguments: argparse.Namespace) -> None:
    store = VersionStore(arguments.index)
    table = store.verify(arguments.version)
    size = sum(one.size for one in table.files.values())
    _say(f"{store.require(arguments.version)}: {len(table.files)} files, {size} bytes, all right")


def _evaluate(arguments: argparse.Namespace) -> None:
    from index_builder.inspection import quality_lines
    from index_builder.quality import measure
    from model.artifact.reader import open_artifact

    given = {"seed": arguments.seed, "sample": arguments.sample}
    options = _checked(EvaluateOptions, given)
    artifact = open_artifact(arguments.index, arguments.version)
    quality = measure(artifact, seed=options.seed, sample=options.sample)
    if arguments.json:
        _say(json.dumps(quality, indent=2))
    else:
        _say("\n".join(f"{name:<16} {text}" for name, text in quality_lines(quality).items()))


def _list(arguments: argparse.Namespace) -> None:
    from index_builder.inspection import listing

    store = VersionStore(arguments.index)
    store.require_root()
    _say(listing(store))


def _activate(arguments: argparse.Namespace) -> None:
    store = VersionStore(arguments.index)
    store.require(arguments.version)
    with store.lock():
        store.activate(arguments.version)
    _say(f"{arguments.version} is current")


def _warm(arguments: argparse.Namespace) -> None:
    from index_builder.warming import WarmOptions, warm
    from model.artifact.reader import open_artifact

    given = vars(arguments)
    options = _checked(WarmOptions, {name: given[name] for name in WarmOptions.model_fields})
    artifact = open_artifact(arguments.index, arguments.version)
    for one in warm(artifact, options):
        _say(
            f"{one.lists} {one.modality} lists of {artifact.version} in redis, "
            f"{one.computed} of them computed now"
        )


COMMANDS: dict[str, Command] = {
    "inspect": _inspect,
    "verify": _verify,
    "evaluate": _evaluate,
    "list": _list,
    "activate": _activate,
    "warm": _warm,
}

HELP = {
    "inspect": "Say what a version holds, costs and achieves.",
    "verify": "Read every file of a version and compare it with its digests.",
    "evaluate": "Measure a version's quality again.",
    "list": "List the versions, oldest first.",
    "activate": "Verify a version and make it the published one.",
    "warm": "Load a version's reverse lists into Redis, where servers share them.",
}


def _checked(kind: type[Options], given: Mapping[str, object]) -> Options:
    """Options of the flags that were given."""
    return checked(kind, {k: v for k, v in given.items() if v is not None})


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        "meet-build",
        description="Build, measure and publish an index of a gallery.",
        epilog="Other commands, each with its own --help: "
        + "; ".join(f"meet-build {name} --index ROOT" for name in COMMANDS),
    )
    add = parser.add_argument
    add("--gallery", required=True, metavar="PATH[:SPLIT]", help="images, captions or embeddings")
    add("--encoder", required=True, help="checkpoint, transformers folder, hub name, or none")
    add("--out", required=True, type=Path, metavar="ROOT", help="the index, made if need be")
    add("--bank", metavar="DIR:SPLIT", help="background of reverse ranks (default: the gallery)")
    add("--bank-size", type=int, help="most images and most captions in it (16384)")
    add("--lists", choices=[one.value for one in ListsChoice], help="reverse lists (auto)")
    add("--lists-budget", type=parse_size, help="most disk that auto spends on them (4GiB)")
    add("--z", type=int, help="length of a reverse list (128, at most 4096)")
    add(
        "--pillar",
        action=argparse.BooleanOptionalAction,
        help="serve LeaPRR, the checkpoint's pillar.safetensors (if it has one)",
    )
    add(
        "--learned",
        action=argparse.BooleanOptionalAction,
        help="serve the checkpoint's learned.safetensors (if it has one, and --bank has pairs)",
    )
    add("--bits", type=int, help="hash bits of heads fitted here (64)")
    add("--shard-size", type=int, help="records done, or done again, at once (4096)")
    add("--batch-size", type=int, help="inputs given to the encoder at once (64)")
    add("--device", help="cpu or cuda")
    add("--max-bad", type=int, help="records that may be unreadable (1 %% of them, at least 10)")
    add("--no-thumbnails", dest="thumbnails", action="store_false", help="store no thumbnails")
    add("--keep-versions", type=int, help="versions that stay for a roll-back (3)")
    add("--seed", type=int, help="of bank, fitting and measuring (0)")
    return parser


def _command_parser(name: str) -> argparse.ArgumentParser:
    parser = Parser(f"meet-build {name}", description=HELP[name])
    parser.add_argument("--index", required=True, type=Path, metavar="ROOT")
    if name == "activate":
        parser.add_argument("version", metavar="VERSION")
    elif name != "list":
        parser.add_argument("--version", help="the current one if not given")
    if name in {"inspect", "evaluate"}:
        parser.add_argument("--json", action="store_true", help="for machines")
    if name == "warm":
        parser.add_argument("--redis-url", required=True, metavar="URL", help="what servers use")
        parser.add_argument("--keep-seconds", type=int, help="how long lists stay (604800)")
        parser.add_argument("--device", help="cpu or cuda")
    if name == "evaluate":
        parser.add_argument("--sample", type=int, help="queries a direction (1000)")
        parser.add_argument("--seed", type=int, help="of the queries drawn (0)")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
