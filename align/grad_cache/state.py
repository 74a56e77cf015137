"""State around a forward pass that a second pass needs again: random draws and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

Draws = tuple[Tensor, ...]
"""States of the CPU's generator, of the device's where there is one, and of the generators of a ``RandomState``."""


class RandomState:
    """Reader and writer of the random state: torch's own on the CPU and on a device, and that of generators."""

    def __init__(self, device: torch.device, generators: tuple[torch.Generator, ...] = ()):
        self._device = None if device.type in ("cpu", "meta") else device
        self._module = None if self._device is None else torch.get_device_module(device.type)
        self._generators = generators

    def read(self, before: Draws = ()) -> Draws:
        """Return the present state. If nothing was drawn since ``before``, return that object, to save memory."""
        now = [torch.get_rng_state()]
        if self._module is not None:
            now.append(self._module.get_rng_state(self._device))
        now += [generator.get_state() for generator in self._generators]
        return before if before and all(map(torch.equal, before, now)) else tuple(now)

    def write(self, draws: Draws) -> None:
        """Go back to a state."""
        rest = [*draws]
        torch.set_rng_state(rest.pop(0))
        if self._module is not None:
            self._module.set_rng_state(rest.pop(0), self._device)
        for generator, state in zip(self._generators, rest, strict=True):
            generator.set_state(state)


class Precision:
    """Autocast and default dtype of the moment in which it is made. A backward pass runs outside of both."""

    def __init__(self, device: torch.device):
        self._dtype = torch.get_default_dtype()
        self._cached = torch.is_autocast_cache_enabled()
        self._kinds = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            for kind in sorted({"cpu", device.type} - {"meta"})
        ]

    @contextmanager
    def restore(self) -> Iterator[None]:
        """Restore both inside the block."""
        before = torch.get_default_dtype()
        with ExitStack() as stack:
            for kind, dtype, enabled in self._kinds:
                stack.enter_context(torch.autocast(kind, dtype, enabled, self._cached))
            torch.set_default_dtype(self._dtype)
            try:
                yield
            finally:
                torch.set_default_dtype(before)


@contextmanager
def one_attention() -> Iterator[None]:
    """Switch off torch's fast path of attention. It sets padding to zero, and a pass with a graph never takes it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
