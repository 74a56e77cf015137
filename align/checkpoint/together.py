"""Files that all ranks write together: one folder that appears whole or not at all, and errors that all ranks raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from align.distributed import exchange, rank
from align.files import atomic_folder


@contextmanager
def together() -> Iterator[None]:
    """Raise an error on every rank where one rank raises in the block, in which no rank waits for another.

    It is an OSError on all where it is one on that rank, and a ValueError on the others where it is another, so that
    none of them takes it for a full disk.
    """
    failed: Exception | None = None
    try:
        yield
    except Exception as error:
        failed = error
    kind = "disk" if isinstance(failed, OSError) else "other"
    said = exchange(b"" if failed is None else f"{kind} {str(failed) or type(failed).__name__}".encode())
    if failed is not None:
        raise failed
    for number, text in enumerate(said):
        if text:
            kind, _, reason = text.decode().partition(" ")
            raise (OSError if kind == "disk" else ValueError)(f"rank {number}: {reason}")


@contextmanager
def shared_folder(path: Path) -> Iterator[Path]:
    """Yield a work folder for all ranks, which rank 0 puts in the place of ``path`` when the block has ended on all.

    Where the block fails, the folder that stood there stays. Raises as `together` where the block does on any rank.
    """
    with ExitStack() as stack:
        with together():
            name = stack.enter_context(atomic_folder(path)).name if rank() == 0 else ""
        work = path.with_name(exchange(name.encode())[0].decode())
        yield work
        with together():
            stack.pop_all().close()
