"""Hash and product-quantisation heads: from embeddings to 16 bytes an item."""
