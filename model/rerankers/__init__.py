"""Stage II: how the last candidates are ordered."""
