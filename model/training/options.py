"""What a training run is told, as frozen values that are saved with its checkpoint."""

from model.core.types import Frozen


class VSEOptions(Frozen):
    """How a VSE is trained. `epochs` counts passes over every caption."""

    epochs: int
    embedding_dim: int = 512
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    input_dropout: float = 0.2
    drop_rows: float = 0.2
    temperature: float = 0.05
    averaging: float = 0.99
    word_embedding_dim: int = 300
    gru_dim: int = 256
    min_word_count: int = 3
    max_words: int = 40
    grid: int = 4
    held_out: float = 0.1
    seed: int = 0


class HeadsOptions(Frozen):
    """How the heads are trained: L = ranking + β1·L_f + β2·L_q in the hash space."""

    n_bits: int = 64
    n_subspaces: int = 8
    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 1e-3
    temperature: float = 0.1
    beta_1: float = 1.0
    beta_2: float = 0.1
    seed: int = 0
