"""Everything that is built ahead of serving: galleries, embeddings and indexes."""
