"""An encoder around another one, and copies of it with other parts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
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
        inside: Any = self.encoder
        return inside.grid_of(values) if isinstance(inside, Encoder) else self.grid

    def wants(self) -> dict[str, Any] | None:
        return self.encoder.wants() if isinstance(self.encoder, Encoder) else None

    def also_wants(self) -> Sequence[dict[str, Any]]:
        return self.encoder.also_wants() if isinstance(self.encoder, Encoder) else ()


class Changed(nn.Module):
    """A part whose first input or output is changed. It has the attributes of the part."""

    def __init__(
        self,
        part: nn.Module,
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.part, self.before, self.after = part, before, after

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the part."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "part" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self._modules["part"], name)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = self.part(x if self.before is None else self.before(x), *args, **kwargs)
        return out if self.after is None else self.after(out)


def replace(module: nn.Module, path: str, part: nn.Module) -> Any:
    """Return a module with another part at a path, and all of its other parts. The module itself stays as it is."""
    name, _, rest = path.partition(".")
    made = copy.copy(module)
    made._modules = dict(module._modules)
    made._modules[name] = replace(getattr(module, name), rest, part) if rest else part
    return made
