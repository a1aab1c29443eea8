"""What an index is and what it costs: memory three ways, counts, quality."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from model.artifact.layout import RootLayout, VersionLayout, is_mapped
from model.artifact.manifest import Manifest
from model.artifact.store import VersionStore
from model.core.types import Frozen, Modality

MIB = 1 << 20


class Memory(Frozen):
    """Bytes of a version: what must be hot, what is mapped, what lies on the disk."""

    anonymous: int
    mapped: int
    disk: int

    @classmethod
    def of(cls, layout: VersionLayout, manifest: Manifest, encoder: Path) -> "Memory":
        """Hamming codes and networks are read whole; all other arrays are mapped.

        For the pillar re-ranker the bank is there a second time, in float32.
        """
        sides = [layout.side(modality) for modality in manifest.counts]
        hot = [layout.heads, *(side.hash_index for side in sides)]
        if manifest.pillar is not None:
            hot += [layout.pillar, *(2 * [layout.bank(m) for m in manifest.bank.sizes])]
        mapped = [path for path in _files(layout.directory) if is_mapped(path)]
        disk = [*_files(layout.directory), *_files(encoder)]
        return cls(anonymous=_sizes(hot), mapped=_sizes(mapped), disk=_sizes(disk))


def inspect(store: VersionStore, version: str | None = None) -> dict[str, JsonValue]:
    """The manifest of a version with its memory, as JSON."""
    manifest, memory = _read(store, version)
    content: dict[str, JsonValue] = manifest.model_dump(mode="json")
    return {**content, "memory": memory.model_dump(mode="json")}


def describe(store: VersionStore, version: str | None = None) -> str:
    """The same for people."""
    manifest, memory = _read(store, version)
    encoder, bank = manifest.encoder, manifest.bank
    lines = {
        "version": f"{manifest.version}{_mark(store, manifest.version)}",
        "created": manifest.created,
        "gallery": f"{manifest.gallery} ({manifest.layout})",
        "items": _pairs(manifest.counts) + f", {manifest.skipped} records skipped",
        "encoder": f"{encoder.name} ({encoder.kind}, D={encoder.embedding_dim}), {encoder.digest}",
        "accepts": ", ".join(encoder.accepts),
        "heads": f"{manifest.heads_source}, {manifest.heads.n_bits} bits, "
        f"{manifest.heads.n_subspaces} PQ bytes",
        "bank": f"{bank.source}: {_pairs(bank.sizes) or 'none'}, z={bank.z}, seed {bank.seed}",
        "lists": manifest.lists.value,
        "pillar": _pillar(manifest),
        "learned": _learned(manifest),
        "stage two": f"calibrated on {manifest.stage_two.calibrated_on}",
        "memory": f"anonymous {_mib(memory.anonymous)}, mapped {_mib(memory.mapped)}, "
        f"disk {_mib(memory.disk)}",
        "built in": ", ".join(f"{name} {spent:.1f} s" for name, spent in manifest.seconds.items()),
        **quality_lines(manifest.quality),
    }
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def quality_lines(quality: dict[str, JsonValue]) -> dict[str, str]:
    """Measured quality, a line each."""
    lines: dict[str, str] = {
        name: _figures(quality[name]) for name in ("base", "cascade") if name in quality
    }
    for name in ("kept", "top10_kept"):
        stages = quality.get(name)
        if isinstance(stages, dict):
            lines |= {f"{name} {stage}": _figures(part) for stage, part in stages.items()}
    return lines


def listing(store: VersionStore) -> str:
    """All versions, oldest first, the current one marked."""
    return "\n".join(f"{name}{_mark(store, name)}" for name in store.names()) or "no versions"


def _read(store: VersionStore, version: str | None) -> tuple[Manifest, Memory]:
    layout = store.layout.version(store.require(version))
    manifest = Manifest.load(layout.manifest)
    encoder = RootLayout(store.layout.root).encoder(manifest.encoder.digest)
    return manifest, Memory.of(layout, manifest, encoder)


def _learned(manifest: Manifest) -> str:
    if manifest.learned is None:
        return "none"
    return f"trained on {manifest.learned.trained_on or 'what it does not say'}"


def _pillar(manifest: Manifest) -> str:
    if manifest.pillar is None:
        return "none"
    trained = manifest.pillar.trained_on or "what it does not say"
    return f"{manifest.pillar.neighbours} neighbours of each kind, trained on {trained}"


def _mark(store: VersionStore, version: str) -> str:
    return "  (current)" if version == store.current() else ""


def _figures(part: JsonValue) -> str:
    """`i2t 50.0 70.1 80.2  t2i …  rsum …`."""
    if not isinstance(part, dict):
        return str(part)
    values = {name: one if isinstance(one, list) else [one] for name, one in part.items()}
    return "  ".join(f"{name} " + " ".join(f"{v:.1f}" for v in one) for name, one in values.items())


def _pairs(counts: Mapping[Modality, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _sizes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"
