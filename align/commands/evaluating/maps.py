"""Options of ``--with dense``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Maps:
    """dense (--with dense)

    Args:
        attention: of the last block of a vision transformer, changed without training: plain, value (MaskCLIP) or self
            (SCLIP). Another encoder takes plain alone
    """

    attention: str = "plain"

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options. Raises ValueError for an attention of another name."""
        from typing import get_args

        from align.encoders.last_attention import Attention
        from align.evaluation import Dense

        if self.attention not in get_args(Attention):
            raise ValueError(f"--attention {self.attention}: it may be {', '.join(get_args(Attention))}")
        attention: Any = self.attention
        return Dense(attention)
