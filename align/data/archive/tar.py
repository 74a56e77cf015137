"""Strict reading of tar: a header with a wrong checksum is a gap to report, never the end of the archive."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
RECORD = 10240  # tar pads archives to this
EMPTY = bytes(BLOCK)
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
BODILESS = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
"""Types of members without a body, whatever size their headers state."""
MAGIC = (b"ustar", bytes(5))  # of every tar since 1988, and of those before


@dataclass(frozen=True)
class Entry:
    """A member with its offset, size and checksum. file: False for a link, a device or a sparse file."""

    name: str
    offset: int
    size: int
    crc32: int
    file: bool = True


@dataclass(frozen=True)
class Gap:
    """A stretch without readable members: "header", "truncated" or "no-end" (cut at the end of a member).

    name: of the member that was cut, where its header tells. harmless: the cut took only zeros of the archive's end.
    """

    kind: str
    offset: int
    name: str = ""
    harmless: bool = False


def scan(file: BinaryIO) -> Iterator[Entry | Gap]:
    """Yield every entry of an uncompressed tar but folders, and the gaps between them.

    Raises ValueError for a compressed archive. Nothing is extracted, and names are not changed.
    """
    size = file.seek(0, 2)
    file.seek(0)
    magic = file.read(6)
    for start, kind in COMPRESSED.items():
        if magic.startswith(start):
            raise ValueError(f"is compressed with {kind}: unpack it first (a member is found by its offset)")
    tail = _tail(file, size)
    offset, zeros, in_gap = 0, 0, False
    name, length = None, None  # from an extended header, for the member that follows
    while offset + BLOCK <= size and offset < tail:
        file.seek(offset)
        raw = file.read(BLOCK)
        if raw == EMPTY and not in_gap:
            zeros, offset = zeros + 1, offset + BLOCK
            name, length = None, None
            continue
        if zeros == 1 or (zeros and offset % RECORD):  # no appended archive begins here, so these zeros were headers
            yield Gap("header", offset - zeros * BLOCK)
            in_gap = True
        zeros = 0
        info = _info(raw)
        if info is None:
            if not in_gap:
                yield Gap("header", offset)
            in_gap, name, length = True, None, None
            offset += BLOCK  # resynchronise on the next block that has a header's checksum
            continue
        in_gap, kind = False, raw[156:157]  # info.type is a folder's where a long name is cut at a slash
        extended = kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        data = 0 if kind in BODILESS else info.size if extended or length is None else length
        begin, offset = offset + BLOCK, offset + BLOCK + -(-data // BLOCK) * BLOCK
        if data < 0 or begin + data > size:
            cut = "" if extended else name if name is not None else info.name
            yield Gap("truncated", begin, cut)
            return
        if extended:
            if data > 1 << 20:  # a name is not that long
                yield Gap("header", begin)
                in_gap, offset = True, begin
            elif kind == tarfile.GNUTYPE_LONGNAME:
                name = file.read(data).rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif kind == tarfile.XHDTYPE:
                try:
                    name, length = _pax(file.read(data), name)
                except ValueError:
                    yield Gap("header", begin)
                    name, length = "", None  # the short name in the header that follows would be another sample's
            continue
        path = name if name is not None else info.name + "/" * info.isdir()
        if kind != tarfile.DIRTYPE and not path.endswith("/"):  # the oldest tars tell folders by that
            yield Entry(path, begin, data, _crc(file, data), kind in REGULAR)
        name, length = None, None
    if offset + BLOCK > size:
        file.seek(min(offset, size))
        start, nul, _ = file.read(100).partition(b"\0")  # a header begins with the name
        plain = nul and start and name is None and not start.startswith(b"././@")
        yield Gap("no-end", size, start.decode("utf-8", "surrogateescape") if plain else "")
    elif offset + 2 * BLOCK > size and zeros == 0:
        yield Gap("no-end", size, harmless=True)  # one block of zeros where an archive has two


def sound(block: bytes) -> bool:
    """Return True where a header's checksum is right: the sum of its bytes, with the checksum's own as spaces.

    The sum is taken from Adler-32, whose lower half is one more than the sum, modulo 65521.
    """
    try:
        stated = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    found = sum((zlib.adler32(part) & 0xFFFF) - 1 for part in (block[:148], block[156:BLOCK])) + 8 * ord(" ")
    if (found - stated) % 65521 == 0 and block[257:262] in MAGIC:
        return True
    return _info(block) is not None  # old writers took the bytes as signed


def _info(block: bytes) -> tarfile.TarInfo | None:
    """Parse a header. Returns None for a wrong checksum, or where the magic is not tar's."""
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape") if block[257:262] in MAGIC else None
    except tarfile.HeaderError:
        return None


def _tail(file: BinaryIO, size: int) -> int:
    """Return the offset at which the zeros begin that fill the rest of the file, rounded up to a block."""
    end = size
    while end > 0:
        begin = max(0, end - (1 << 16))
        file.seek(begin)
        kept = file.read(end - begin).rstrip(b"\0")
        if kept:
            return -(-(begin + len(kept)) // BLOCK) * BLOCK
        end = begin
    return 0


def _crc(file: BinaryIO, size: int) -> int:
    crc = 0
    while size > 0:
        chunk = file.read(min(size, 1 << 20))
        crc, size = zlib.crc32(chunk, crc), size - len(chunk)
    return crc


def _pax(data: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Return the path and size in the records ``LENGTH KEY=VALUE\\n`` of an extended header.

    Raises ValueError for a broken record, and for those of a sparse file, whose bytes are not its content.
    """
    size, data = None, data.rstrip(b"\0")
    while data:
        length = int(data.partition(b" ")[0])
        record, data = data[:length], data[length:]
        key, equals, value = record.partition(b" ")[2].partition(b"=")
        if len(record) != length or not equals or value[-1:] != b"\n" or key.startswith(b"GNU.sparse."):
            raise ValueError(f"the record {record!r} of an extended header")
        if key == b"path":
            name = value[:-1].decode("utf-8", "surrogateescape")
        elif key == b"size":
            size = int(value)
    return name, size


def header(name: str, size: int) -> bytes:
    """Return the header of a regular file without time, owner or machine: equal input gives equal bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int, to: int = BLOCK) -> bytes:
    """Return the zeros that fill ``size`` bytes up to a multiple of ``to``."""
    return bytes(-size % to)


def room(size: int) -> int:
    """Return the bytes that a member of ``size`` bytes takes in a tar: its header and its padded content."""
    return BLOCK + size + -size % BLOCK
