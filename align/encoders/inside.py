"""An encoder around another one, and calls of its parts with changed input or output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from align.encoders.base import Encoder


class Around(Encoder):
    """Abstract: an encoder that holds another. It has the attributes of the one inside, such as width and context."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder: Any = encoder
        self.origin = getattr(encoder, "origin", None)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the encoder inside."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "encoder" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self._modules["encoder"], name)

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  of the encoder inside
        return self.encoder.width

    @property
    def grid(self) -> tuple[int, int] | None:  # pyright: ignore[reportIncompatibleVariableOverride]  of the one inside
        return getattr(self.encoder, "grid", None)

    @property
    def grid_start(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  of the encoder inside
        return getattr(self.encoder, "grid_start", 0)

    def grid_of(self, values: Any) -> tuple[int, int] | None:
        return self.encoder.grid_of(values) if isinstance(self.encoder, Encoder) else self.grid

    def wants(self) -> dict[str, Any] | None:
        return self.encoder.wants() if isinstance(self.encoder, Encoder) else None

    def also_wants(self) -> Sequence[dict[str, Any]]:
        return self.encoder.also_wants() if isinstance(self.encoder, Encoder) else ()


@contextmanager
def called_with(
    module: nn.Module,
    *,
    before: Callable[[Tensor], Tensor] | None = None,
    after: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Change the first argument of a module's calls, or their output, inside the block."""
    handles = []
    if before is not None:
        handles.append(module.register_forward_pre_hook(lambda _, args: (before(args[0]), *args[1:])))
    if after is not None:
        handles.append(module.register_forward_hook(lambda _, args, out: after(out)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
