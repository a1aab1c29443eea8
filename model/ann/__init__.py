"""Nearest neighbours: the only door to faiss, and exact twins of it in numpy."""
