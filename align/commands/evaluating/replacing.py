"""Options of ``--with compatibility``."""

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
    """compatibility (--with compatibility)

    Args:
        old: the earlier model, which asks and answers beside this one: a folder, a run, owner/name on the hub, or
            LAYOUT:SOURCE. The packages of --allow hold for it too
    """

    old: str | None = None

    def evaluator(self, load: Callable[[str], JointModel] | None = None) -> Evaluator:
        """Return the evaluator with these options. load: opens the other model, ``align.load`` by default."""
        from align import load as load_model
        from align.commands.errors import Refused
        from align.evaluation import Compatibility

        if self.old is None:
            raise Refused("--with compatibility compares with an earlier model; name it: --old MODEL", code=2)
        try:
            return Compatibility((load or load_model)(self.old), self.old)
        except (ValueError, OSError) as error:
            raise Refused(f"--old: {error}") from None
