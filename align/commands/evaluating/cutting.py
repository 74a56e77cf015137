"""Options of ``--with gallery``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator
    from align.model import JointModel


@final
@dataclass(frozen=True)
class Cutting:
    """gallery (--with gallery)

    Args:
        negatives: wrong candidates that stay in the gallery of each query
        reference: the model by which they are the hardest. Default: the measured model itself. The packages of --allow
            hold for it too
        rivals: further models, separated by commas, which the full and the cut galleries put in an order
    """

    negatives: int = 50
    reference: str | None = None
    rivals: str = ""

    def evaluator(self, load: Callable[[str], JointModel] | None = None) -> Evaluator:
        """Return the evaluator with these options. load: opens other models, ``align.load`` by default."""
        from align import load as load_model
        from align.commands.errors import Refused
        from align.commands.named import split
        from align.evaluation import Gallery

        def read(option: str, name: str) -> JointModel:
            try:
                return (load or load_model)(name)
            except (ValueError, OSError) as error:
                raise Refused(f"{option}: {error}") from None

        if self.negatives < 1:
            raise Refused(f"--negatives is 1 at least; got {self.negatives}", 2)
        reference = None if self.reference is None else read("--reference", self.reference)
        others = {name: read("--rivals", name) for name in split(self.rivals)}
        return Gallery(reference, self.reference or "reference", others, self.negatives)
