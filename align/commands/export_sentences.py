"""Options of ``align export --to sentence-transformers``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

from align.commands.errors import Refused


@final
@dataclass(frozen=True)
class Sentences:
    """with --to sentence-transformers

    Args:
        prompts: texts that go before a text, by name, as in '{query: "query: "}': encode(..., prompt_name="query")
        truncate: first coordinates that encode gives, of a model trained with Matryoshka
        modules: native for Sentence Transformers' own modules where they hold the model, align for align's always
    """

    prompts: dict[str, str] | None = None
    truncate: int | None = None
    modules: Literal["native", "align"] = "native"

    def settings(self, to: str) -> dict[str, Any]:
        """Return the writer's arguments. Raises Refused where one is given for another format."""
        given = {name: x for name, x in vars(self).items() if x != getattr(Sentences(), name)}
        if to != "sentence-transformers" and given:
            raise Refused(f"--{next(iter(given))} belongs to --to sentence-transformers, not to --to {to}", code=2)
        return given
