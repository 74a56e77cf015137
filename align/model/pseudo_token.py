"""A picture, a sound or a cloud as one word of a text: a pseudo-token in place of a token's vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.model.tower import Tower

WORD = "*"


@final
class PseudoToken(nn.Module):
    """Map of embeddings (n, D), of any modality, to vectors (n, W) of a text encoder's token table.

    It is Pic2Word's mapping network (Saito et al. 2023, arXiv 2302.03084, section 3.1), an MLP with two hidden layers.
    Trained so that "a *" with a row's vector is near that row, it needs no triplet. A text tower is tuned on text alone
    afterwards (RTD, Byun et al. 2024, arXiv 2406.09188): the word stands for a reference caption's embedding, and the
    text with the change is drawn to the target caption of the frozen tower, see configs/ideas/pseudo_token.py.

    The vectors are as long as the table's mean row at the start, ``length``. The map is no part of a model folder: keep
    its ``state_dict``.
    """

    def __init__(self, dim: int, width: int, hidden: int | None = None, length: float = 1.0):
        super().__init__()
        self.dim, self.width, self.hidden, self.length = dim, width, hidden, length
        wide = hidden or 4 * dim
        self.layers = nn.Sequential(
            nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, width)
        )
        self.log_length = nn.Parameter(torch.tensor(float(length)).log())

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize(self.layers(embeddings), dim=-1) * self.log_length.exp()


def map_to(tower: Tower, dim: int, hidden: int | None = None) -> PseudoToken:
    """Return a fresh map from embeddings (n, dim) to the token table of a text tower."""
    table = find_table(tower.encoder)
    length = float(table.weight.detach().float().norm(dim=1).mean())
    return PseudoToken(dim, table.embedding_dim, hidden, length)


def compose(tower: Tower, texts: Sequence[str], vectors: Tensor, word: str = WORD) -> Tensor:
    """Return (n, D), not normalised, of texts that hold a word whose token has the vector of their row.

    Gradients go to the tower and to the vectors. The tower's mode is as it is.

    texts: n, each with the word one time ("* but of wood"). vectors: (n, W). word: one token of the tower's text.

    Raises ValueError for a text without the word or with several, for a word of several tokens, another number of
    vectors, and an encoder without a token table.
    """
    if len(texts) != len(vectors):
        raise ValueError(f"each text has one vector for its {word!r}; got {len(texts)} texts, {len(vectors)} vectors")
    place = find_place(tower, word)
    values: Any = tower.preprocess.collate([tower.preprocess.eval(tower.preprocess.decode(text)) for text in texts])
    ids = read_ids(values)
    for text, count in zip(texts, (ids == place).sum(1).tolist(), strict=True):
        if count != 1:
            raise ValueError(f"the text {text!r} has the word {word!r} {count} times within its length; it has it once")
    device = next(tower.parameters()).device
    values = {k: x.to(device) for k, x in values.items()} if isinstance(values, dict) else values.to(device)
    with insert(find_table(tower.encoder), place, vectors):
        return tower(values)


def find_place(tower: Tower, word: str = WORD) -> int:
    """Return the id of a word. Raises ValueError where its text has not exactly one token of its own."""
    preprocess: Any = tower.preprocess
    empty, one = (read_ids(preprocess.collate([preprocess.eval(text)])).flatten() for text in ("", word))
    found = one[~torch.isin(one, empty)].tolist()
    if len(found) != 1:
        raise ValueError(f"a pseudo-token stands for one token; {word!r} has {len(found)} in this tower's text")
    return found[0]


def find_table(encoder: nn.Module) -> nn.Embedding:
    """Return the token table of a text encoder: its largest table. Raises ValueError where it has none."""
    tables = [module for module in encoder.modules() if isinstance(module, nn.Embedding)]
    if not tables:
        raise ValueError(f"{type(encoder).__name__} has no token table (nn.Embedding), so no token has a vector")
    return max(tables, key=lambda table: table.num_embeddings)


def read_ids(values: Any) -> Tensor:
    """Return the ids (n, L) of collated text."""
    return values["input_ids"] if isinstance(values, dict) else values


@contextmanager
def insert(table: nn.Embedding, place: int, vectors: Tensor) -> Iterator[None]:
    """Give row i's token of the id ``place`` the vector i (n, W) while the context is open."""

    def replace(_: nn.Module, given: Any, out: Tensor) -> Tensor:
        at = given[0] == place  # (n, L)
        return torch.where(at[..., None], vectors[:, None].to(out), out) if len(vectors) else out

    handle = table.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
