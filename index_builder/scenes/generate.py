"""Scene galleries on disk: an image folder, one manifest per split, and how each was made."""

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from index_builder.scenes.captions import captions
from index_builder.scenes.render import render
from index_builder.scenes.sample import sample_scenes
from index_builder.scenes.scene import Scene
from index_builder.scenes.split import SceneSplit
from model.core.errors import InputError

# Raised whenever the same arguments come to mean other pixels or other captions.
GENERATOR_VERSION = 1
MAX_SCENES = 100_000

_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that the contents of a split follow from; kept beside its manifest.

    Raises:
        InputError: a count outside 1 to `MAX_SCENES`, or a negative seed.
    """

    split: SceneSplit
    n_scenes: int
    seed: int
    version: int = GENERATOR_VERSION

    def __post_init__(self) -> None:
        if not 1 <= self.n_scenes <= MAX_SCENES:
            raise InputError(f"a split holds 1 to {MAX_SCENES} scenes, got {self.n_scenes}")
        if self.seed < 0:
            raise InputError(f"a seed is 0 or more, got {self.seed}")


def generate_gallery(
    directory: Path,
    split: SceneSplit,
    n_scenes: int,
    seed: int,
    on_scene: Callable[[], object] = lambda: None,
) -> Path:
    """The manifest `directory/{split}.jsonl`, written last, so it never names a missing image.

    A finished split is left as it is and an interrupted one goes on where it stopped; `on_scene`
    is called once for each scene that is written or found.

    Raises:
        InputError: a count or seed out of range, or a folder made otherwise.
    """
    recipe = Recipe(split, n_scenes, seed)
    manifest = directory / f"{split}.jsonl"
    _claim(directory, recipe)
    if manifest.exists():
        return manifest
    lines = []
    for position, scene in enumerate(itertools.islice(sample_scenes(split, seed), n_scenes)):
        item = _item(scene, split, position)
        _save_image(scene, directory / f"images/{item['id']}.jpg")
        lines.append(json.dumps(item) + "\n")
        on_scene()
    _write_text(manifest, "".join(lines))
    return manifest


def _claim(directory: Path, recipe: Recipe) -> None:
    """Settle what the split in this folder is made from, before its first image."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"a gallery is written into a folder, got the file {directory}")
    path = directory / f"{recipe.split}.recipe.json"
    wanted = json.dumps(asdict(recipe))
    if not path.exists():
        _check_untouched(directory, recipe.split)
        (directory / "images").mkdir(parents=True, exist_ok=True)
        _write_text(path, wanted)
    elif (found := path.read_text(encoding="utf-8")) != wanted:
        raise InputError(f"a folder keeps the recipe of a split: {path} has {found}, got {wanted}")


def _check_untouched(directory: Path, split: SceneSplit) -> None:
    """Refuse a folder with files of the split but no recipe: nobody knows what they show."""
    strangers = (*directory.glob(f"{split}.jsonl"), *directory.glob(f"images/{split}-*.jpg"))
    if strangers:
        raise InputError(f"files of a split need its recipe beside them, got {strangers[0]} alone")


def _item(scene: Scene, split: SceneSplit, position: int) -> dict[str, object]:
    """The manifest line of a scene."""
    name = f"{split}-{position:05d}"
    return {
        "id": name,
        "path": f"images/{name}.jpg",
        "captions": captions(scene),
        "metadata": {
            "n_objects": len(scene.objects),
            "background": scene.background,
            "split": split,
        },
    }


def _save_image(scene: Scene, path: Path) -> None:
    if path.exists():
        return
    unfinished = path.with_suffix(".part")
    render(scene).save(unfinished, format="JPEG", quality=_JPEG_QUALITY)
    unfinished.replace(path)


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
