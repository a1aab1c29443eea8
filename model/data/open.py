"""The one way in: a place on disk is looked at, and its layout opened."""

from pathlib import Path

from model.core.errors import DataFormatError
from model.data.embeddings import (
    holds_vectors,
    is_embeddings_folder,
    open_embeddings,
    open_vector_parquet,
)
from model.data.files import in_order
from model.data.image_folder import image_files, open_image_folder
from model.data.karpathy import karpathy_files, open_karpathy
from model.data.manifest import MANIFEST_SUFFIXES, open_manifest
from model.data.precomp import open_precomp, precomp_splits
from model.data.records import Collection, LazyRecords, check_ids
from model.data.webdataset import expand_pattern, open_webdataset, webdataset_splits

_MAIN_MANIFEST = "manifest"
_LOOKED_FOR = (
    "img_emb/*.npy, text_emb/*.npy, image.npy, text.npy, *_ims.npy, *.tar, *.jsonl, *.parquet, "
    "dataset_*.json, or image files"
)


def open_collection(place: str | Path, split: str | None = None) -> Collection:
    """The collection at a folder, a file, or a pattern of tar shards; `DIR:SPLIT` names a split.

    A file or pattern is one split by itself, whatever `split` says, but for Karpathy's JSON,
    which holds several.

    Raises:
        DataFormatError: nothing is there, or several splits are, or it breaks its format.
    """
    path, split = _place_and_split(str(place), split)
    if not path.exists():
        collection = _open_pattern(path)
    elif path.is_file():
        collection = _open_file(path, path.stem, split)
    elif split is None:
        collection = _open_folder(path, path.resolve().name)
    else:
        collection = _open_split(path, split)
    return _checked(collection, path)


def _place_and_split(place: str, split: str | None) -> tuple[Path, str | None]:
    folder, _, name = place.rpartition(":")
    if split is None and folder and name and not Path(place).exists():
        return Path(folder), name
    return Path(place), split


def _checked(collection: Collection, path: Path) -> Collection:
    """The collection, if it holds something and its ids name one thing each."""
    records = collection.records
    if not records:
        raise DataFormatError(f"a collection holds at least one item, got none in {path}")
    if isinstance(records, LazyRecords):
        check_ids(records.ids(), str(path))
    else:
        check_ids([record.id for record in records], str(path))
    return collection


def _open_pattern(path: Path) -> Collection:
    shards = [shard for shard in expand_pattern(str(path)) if shard.is_file()]
    if path.suffix != ".tar" or not shards:
        raise DataFormatError(f"{path} needs to be there, got no file or folder of that name")
    return open_webdataset(shards, path.stem)


def _open_file(path: Path, name: str, split: str | None = None) -> Collection:
    if path.suffix == ".tar":
        return open_webdataset([path], name)
    if path.suffix == ".parquet" and holds_vectors(path):
        return open_vector_parquet([path], name)
    if path.suffix in MANIFEST_SUFFIXES:
        return open_manifest(path, name)
    if path.suffix == ".json":
        return open_karpathy(path, split, name)
    raise DataFormatError(f"a file needs to be .tar, .jsonl, .parquet or .json, got {path}")


def _open_split(folder: Path, split: str) -> Collection:
    """The split, from the first of the layouts that has one of that name."""
    name = f"{folder.resolve().name}:{split}"
    if split in precomp_splits(folder):
        return open_precomp(folder, split)
    if shards := webdataset_splits(folder).get(split):
        return open_webdataset(shards, name)
    for suffix in MANIFEST_SUFFIXES:
        if (path := folder / f"{split}{suffix}").is_file():
            return _open_file(path, name)
    if files := karpathy_files(folder):
        return open_karpathy(_only_file(files), split, folder.resolve().name)
    if (folder / split).is_dir():
        return _open_folder(folder / split, name)
    looked_for = (
        f"{split}_ims.npy, {split}-*.tar, {split}.jsonl, {split}.parquet, dataset_*.json, {split}/"
    )
    raise DataFormatError(f"{folder} has no split {split!r}: looked for {looked_for}")


def _open_folder(folder: Path, name: str) -> Collection:
    """The folder's one collection, in the first layout that it shows."""
    if is_embeddings_folder(folder):
        return open_embeddings(folder, name)
    if splits := precomp_splits(folder):
        return open_precomp(folder, _only(splits, folder))
    if shards := webdataset_splits(folder):
        return open_webdataset(shards[_only(list(shards), folder)], name)
    if manifests := in_order(p for p in folder.iterdir() if p.suffix in MANIFEST_SUFFIXES):
        return _open_manifests(manifests, folder, name)
    if files := karpathy_files(folder):
        return open_karpathy(_only_file(files), None, name)
    if any(image_files(folder)):
        return open_image_folder(folder, name)
    raise DataFormatError(f"{folder} holds no collection: looked for {_LOOKED_FOR}")


def _open_manifests(manifests: list[Path], folder: Path, name: str) -> Collection:
    """Parquet files of embeddings together, or the one manifest."""
    parquet = [path for path in manifests if path.suffix == ".parquet"]
    if parquet and holds_vectors(parquet[0]):
        return open_vector_parquet(parquet, name)
    main = [path for path in manifests if path.stem == _MAIN_MANIFEST]
    by_stem = {path.stem: path for path in reversed(main or manifests)}
    return open_manifest(by_stem[_only(list(by_stem), folder)], name)


def _only(splits: list[str], folder: Path) -> str:
    if len(splits) > 1:
        names = ", ".join(sorted(splits))
        raise DataFormatError(f"{folder} holds several splits, name one as DIR:SPLIT: {names}")
    return splits[0]


def _only_file(paths: list[Path]) -> Path:
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise DataFormatError(f"{paths[0].parent} holds several split files, give one: {names}")
    return paths[0]
