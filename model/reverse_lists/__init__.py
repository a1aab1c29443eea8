"""Reverse top-z rankings: computed, stored and cached (the only door to redis)."""
