"""Opening of a container by PyAV, from a file or bytes alone: no other file and no address is ever read for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

from align.extras import has_part, pip_install
from align.media.containers.ends import Extent, extent
from align.media.containers.entries import check_entries
from align.media.containers.kinds import HEAD, MATROSKA, MP4, Kind, kind_of
from align.media.reading import bad, open_source
from align.values import BadSample

MAX_PIXELS = 1 << 26  # of a frame: 8192 x 8192, above 8K
LATE = 0.5  # seconds after which the begin of a Matroska file is late
STREAMS = 64  # of a container: hostile ones have thousands
PROBED = 5_000_000  # bytes in which FFmpeg looks for the streams' parameters, its default


class Opened:
    """Open container. kind: by its content. extent: where its file ends and should."""

    def __init__(self, file: BinaryIO, kind: Kind, ends: Extent, source: Any, modality: str):
        self.file, self.kind, self.extent, self.source, self.modality = file, kind, ends, source, modality
        self.container: Any = self._open()
        if kind == MP4:
            self._check_index()

    def _check_index(self) -> None:
        """Raise BadSample MODALITY/truncated for an index that points behind the end."""
        for stream in self.container.streams:
            if entries := stream.index_entries:
                last = entries[len(entries) - 1]
                if last.pos + last.size > self.extent.size:
                    said = f"its index points to byte {last.pos + last.size}, and it has {self.extent.size}"
                    raise self.bad("truncated", said)

    def _open(self) -> Any:
        import av

        self.file.seek(0)
        limits = {"max_pixels": str(MAX_PIXELS)}
        reads = {"protocol_whitelist": "", "max_streams": str(STREAMS), "probesize": str(PROBED)}
        return av.open(
            self.file, "r", self.kind.demuxer, options=limits, container_options=reads, io_open=_refuse_other_file
        )

    def reopen(self) -> None:
        """Open the container anew, at its start."""
        self.container.close()
        self.container = self._open()

    def undecodable(self, error: Exception, said: str) -> BadSample:
        """Return the reason MODALITY/corrupt of a packet, MODALITY/too-large where memory ran out."""
        if isinstance(error, MemoryError):
            return explain(error, self.source, self.modality, self.kind)
        return self.bad("corrupt", f"{said} cannot be decoded: {message_of(error)}")

    def bad(self, why: str, detail: str) -> BadSample:
        """Return a BadSample of this file."""
        return bad(f"{self.modality}/{why}", self.source, detail)


@contextmanager
def open_container(source: Any, modality: str) -> Iterator[Opened]:
    """Open a container's file or bytes. Errors while it is open become BadSample: see ``check_file`` and ``explain``.

    modality: the first part of the reasons.
    """
    with open_source(source) as file:
        kind, ends = check_file(file, source, modality)
        from av.error import FFmpegError

        try:
            opened = Opened(file, kind, ends, source, modality)
        except (FFmpegError, OSError, ValueError, MemoryError, RuntimeError) as error:
            raise explain(error, source, modality, kind) from None
        try:
            yield opened
        except (FFmpegError, MemoryError) as error:
            raise explain(error, source, modality, kind) from None
        finally:
            opened.container.close()


def check_file(file: BinaryIO, source: Any, modality: str) -> tuple[Kind, Extent]:
    """Return the kind and the extent of a file before it is opened.

    Raises BadSample: MODALITY/empty, format, truncated, too-large, and no-package where PyAV is not installed.
    """
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise bad(f"{modality}/empty", source, "no bytes")
    kind = kind_of(head)
    if kind is None:
        detail = f"it starts with {head[:12]!r}; MP4, QuickTime, WebM, Matroska and AVI are read"
        raise bad(f"{modality}/format", source, detail)
    ends = extent(file, kind)
    if ends.lacks:
        raise bad(f"{modality}/truncated", source, f"{ends.lacks} is missing: the file was cut, or never finished")
    if ends.was_cut:
        raise bad(f"{modality}/truncated", source, f"{ends.size} of {ends.stated} bytes are there")
    if kind == MP4 and (most := check_entries(file, ends.size)):
        raise bad(f"{modality}/too-large", source, f"its index states more than {most:,} samples")
    if not has_package():
        raise bad(f"{modality}/no-package", source, f"{kind.name} needs PyAV; {pip_install('video')}")
    return kind, ends


def begins_late(opened: Opened) -> bool:
    """Return whether a Matroska file begins late. Some writers count its length from zero, others from its begin."""
    return opened.kind == MATROSKA and (opened.container.start_time or 0) / 1e6 > LATE


def has_package() -> bool:
    """Return True where PyAV is installed."""
    return has_part("av", "open")


def explain(error: Exception, source: Any, modality: str, kind: Kind) -> BadSample:
    """Return the reason MODALITY/unreadable with FFmpeg's message, MODALITY/too-large where memory ran out."""
    if isinstance(error, MemoryError):
        return bad(f"{modality}/too-large", source, "it needs more memory than there is")
    return bad(f"{modality}/unreadable", source, f"{kind.name}: {message_of(error)}")


def message_of(error: BaseException) -> str:
    """Return an error's message in one line, without the name that FFmpeg gave the file."""
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()) or type(error).__name__


def _refuse_other_file(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a container that refers to another file")
