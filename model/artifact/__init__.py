"""The index format: reader and writer together."""
