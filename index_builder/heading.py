"""Stage: heads, trained or fitted here, and the codes they give."""

from typing import NamedTuple

from index_builder.banking import open_embeddings
from index_builder.build import Bank, Tools
from model.artifact.manifest import HeadsSource
from model.core.types import HalfArray, Modality
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig

BITS_PER_SUBSPACE = 8


class BuiltHeads(NamedTuple):
    """Heads, and whether they were trained."""

    heads: Heads
    source: HeadsSource


def take_heads(tools: Tools, bank: Bank, counts: dict[Modality, int]) -> BuiltHeads:
    """The checkpoint's heads; without them, heads fitted to gallery and bank."""
    trained = tools.checkpoint.heads
    if trained is not None:
        return BuiltHeads(trained, HeadsSource.TRAINED)
    options = tools.options
    config = HeadsConfig(
        embedding_dim=tools.encoder.identity.embedding_dim,
        n_bits=options.bits,
        n_subspaces=max(1, options.bits // BITS_PER_SUBSPACE),
    )
    samples: dict[Modality, HalfArray] = dict(bank.embeddings)
    samples.update({m: open_embeddings(tools, m, count) for m, count in counts.items()})
    return BuiltHeads(fit_heads(config, samples, options.seed), HeadsSource.FITTED)


def write_codes(tools: Tools, heads: Heads, counts: dict[Modality, int]) -> None:
    """Write the heads, and each side's Hamming index and PQ codes."""
    tools.writer.heads(heads)
    for modality, count in counts.items():
        tools.writer.codes(
            modality, heads.encode(modality, open_embeddings(tools, modality, count))
        )
