"""Options of ``--with geometry``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator
    from align.model import JointModel


@final
@dataclass(frozen=True)
class Shape:
    """geometry (--with geometry)

    Args:
        against: another model, whose nearest neighbours are compared with those of the same modality: a folder, a run,
            owner/name on the hub, or LAYOUT:SOURCE. The packages of --allow hold for it too
        rsa_matrix: a .npy or .csv of n x n dissimilarities, compared with each modality (RSA). A .csv may have the
            samples' keys in its first line and first column. Without keys the order is that of the samples
        mutual_k: neighbours of mutual kNN
        permutations: permutations of the Mantel test of RSA
    """

    against: str | None = None
    rsa_matrix: str | None = None
    mutual_k: int = 10
    permutations: int = 999

    def evaluator(self, load: Callable[[str], JointModel] | None = None) -> Evaluator:
        """Return the evaluator with these options. load: opens the other model, ``align.load`` by default."""
        from align import load as load_model
        from align.commands.errors import Refused
        from align.commands.evaluating.given import MOST
        from align.evaluation import Geometry
        from align.evaluation.geometry import read_matrix

        if self.mutual_k < 1 or not 1 <= self.permutations <= MOST:
            raise Refused(f"--mutual-k and --permutations are 1 at least, and --permutations {MOST:,} at most", code=2)
        more: dict[str, Any] = {}
        if self.rsa_matrix is not None:
            try:
                more["matrix"] = read_matrix(self.rsa_matrix)
            except ValueError as error:
                raise Refused(f"--rsa-matrix: {error}") from None
        if self.against is not None:
            try:
                model = (load or load_model)(self.against)
            except (ValueError, OSError) as error:
                raise Refused(f"--against: {error}") from None
            more |= {"against": model, "against_name": _short(self.against)}
        return Geometry(k=self.mutual_k, permutations=self.permutations, **more)


def _short(model: str) -> str:
    """Return the last part of a model's path, with the characters that a score may have.

    >>> _short("runs/digits/"), _short("open_clip:hub/ViT B")
    ('digits', 'ViT_B')
    """
    last = model.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in last) or "other"
