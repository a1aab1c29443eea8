"""The papers' released checkpoints (ESA, MEET) turned into checkpoints of this project."""
