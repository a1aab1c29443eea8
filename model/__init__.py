"""What both sides of MEET stand on: encoders, codes, re-rankers, artifact, cascade, training."""
