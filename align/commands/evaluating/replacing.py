"""Options of ``--with compatibility`` and ``--with drift``, which compare with an earlier model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator
    from align.model import JointModel


@final
@dataclass(frozen=True)
class Replacing:
    """an earlier model (--with compatibility,drift)

    Args:
        old: the earlier model, which asks and answers beside this one, and from which this one drifted: a folder, a
            run, owner/name on the hub, or LAYOUT:SOURCE. The packages of --allow hold for it too
    """

    old: str | None = None

    def evaluator(self, load: Callable[[str], JointModel] | None = None) -> Evaluator:
        """Return the evaluator with these options. load: opens the other model, ``align.load`` by default."""
        from align.evaluation import Compatibility

        return Compatibility(self._open("compatibility", load), self.old or "old")

    def drift(self, load: Callable[[str], JointModel] | None = None) -> Evaluator:
        """Return the evaluator of drift. load: as of ``evaluator``."""
        from align.evaluation import Drift

        return Drift(self._open("drift", load), self.old or "old")

    def _open(self, evaluator: str, load: Callable[[str], JointModel] | None) -> JointModel:
        from align import load as load_model
        from align.commands.errors import Refused

        if self.old is None:
            raise Refused(f"--with {evaluator} compares with an earlier model; name it: --old MODEL", code=2)
        try:
            return (load or load_model)(self.old)
        except (ValueError, OSError) as error:
            raise Refused(f"--old: {error}") from None
