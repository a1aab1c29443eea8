"""Seeded scenes of coloured shapes with captions: galleries anyone can rebuild byte for byte."""

from index_builder.scenes.captions import captions
from index_builder.scenes.generate import generate_gallery
from index_builder.scenes.render import render
from index_builder.scenes.sample import sample_scenes
from index_builder.scenes.scene import Scene, SceneObject
from index_builder.scenes.split import SceneSplit, split_of

__all__ = [
    "Scene",
    "SceneObject",
    "SceneSplit",
    "captions",
    "generate_gallery",
    "render",
    "sample_scenes",
    "split_of",
]
