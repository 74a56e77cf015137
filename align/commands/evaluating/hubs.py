"""Options of ``--with hubness``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Hubs:
    """hubness (--with hubness)

    Args:
        hub_k: the length of the lists of answers in which hubs are counted
        bank: the queries that repairs of hubness learn from: those of --train, or of the test set, which is marked as
            transductive
        bank_size: rows of each modality that are drawn from the bank. 0: all
        repairs: the repairs, separated by commas: nnn, inverted_softmax, qb_norm, dual_bank, sinkhorn
        nnn_k: queries of the bank by which NNN corrects a candidate
        nnn_alpha: the factor of NNN's correction
        sharpness: the inverse temperature of the softmaxes over cosines
    """

    hub_k: int = 10
    bank: Literal["train", "test"] = "train"
    bank_size: int = 0
    repairs: str = "nnn,inverted_softmax,qb_norm,dual_bank,sinkhorn"
    nnn_k: int = 128
    nnn_alpha: float = 0.75
    sharpness: float = 20.0

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options."""
        from align.commands.named import split
        from align.evaluation import Hubness

        return Hubness(
            k=self.hub_k,
            bank=self.bank,
            bank_size=self.bank_size,
            repairs=tuple(split(self.repairs)),
            nearest=self.nnn_k,
            alpha=self.nnn_alpha,
            sharpness=self.sharpness,
        )
