"""LeaPRR, the learnable pillar-based re-ranker (SIGIR 2023): post-processing on similarities alone.

A query and its shortlist are described by their similarities to pillars, refined together by a
small transformer whose attention is half a graph of shared neighbours, and ordered by the cosine
of the refined query with each refined candidate.
"""
