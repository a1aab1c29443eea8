"""Collections: what training, evaluation, banks and the builder read."""
