"""The online side: HTTP over one opened index."""
