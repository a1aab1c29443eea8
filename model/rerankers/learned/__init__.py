"""The learned re-ranker: a list-wise network over hubness and expansion terms.

It goes beyond LeaPRR (SIGIR 2023), which sees similarities to pillars but neither hubness nor the
bank's pairs; here every query's best candidates by relationship are ordered anew.
"""
