"""Containers of sound whose header states the number of bytes: the place of the samples, and mended headers.

A program that writes to a pipe cannot go back to its header. It leaves 0 or the largest number there, which means
"until the end". libsndfile takes some of these files for empty or broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

CHUNKS = 1000  # at most, because a hostile file can hold millions of empty ones


class Layout(NamedTuple):
    """Layout of a container's chunks.

    first: byte of the first chunk. name, width: bytes of a chunk's name and of its length. pad: a chunk's end is
    rounded up to a multiple of it. whole: the length includes the chunk's name and length. slack: bytes at the end that
    writers count but leave out.
    """

    first: int
    name: int
    width: int
    order: str
    pad: int
    data: tuple[bytes, ...]
    whole: bool = False
    slack: int = 0


LAYOUTS = {
    b"RIFF": Layout(12, 4, 4, "little", 2, (b"data",), slack=1),
    b"RIFX": Layout(12, 4, 4, "big", 2, (b"data",), slack=1),
    b"RF64": Layout(12, 4, 4, "little", 2, (b"data",), slack=1),
    b"BW64": Layout(12, 4, 4, "little", 2, (b"data",), slack=1),
    b"FORM": Layout(12, 4, 4, "big", 2, (b"SSND", b"BODY"), slack=1),  # AIFF, AIFC and 8SVX
    b"riff": Layout(40, 16, 8, "little", 8, (b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a",), True),  # Wave64
    b"caff": Layout(8, 4, 8, "big", 1, (b"data",)),
    b"Crea": Layout(26, 1, 3, "little", 1, (b"\1", b"\x09")),  # Creative Voice
    b"MATL": Layout(128, 4, 4, "little", 8, (), slack=8),  # MATLAB 5: the last array holds the samples
}


class Samples(NamedTuple):
    """Place of the samples in a container. length: bytes, as stated by the number at ``field``, of ``width`` bytes."""

    start: int
    length: int
    field: int
    width: int
    order: str

    @property
    def end(self) -> int:
        return self.start + self.length

    def is_open(self, size: int, layout: Layout | None, file: BinaryIO) -> bool:
        """Return True for a length that means "until the end"."""
        if self.width == 0:
            return False
        if self.length == 0:
            rest = layout is not None and fits(file, layout, self.start, size)
            return self.start < size and not rest
        least = 0x7FFF0000 if self.width == 4 else 1 << 8 * self.width - 2
        return self.length >= least and self.end > size

    def patch(self, size: int) -> bytes:
        """Return the bytes that should stand in ``field``."""
        return (size - self.start).to_bytes(self.width, "little" if self.order == "little" else "big")


def find_samples(file: BinaryIO, head: bytes, size: int) -> tuple[Samples, Layout | None] | None:
    """Return the place of the samples in a file that begins with ``head`` (64 bytes or more, if the file has so many).

    Returns None for an unknown container, or one that states no number of bytes.
    """
    layout = LAYOUTS.get(head[:4])
    if layout is None:
        found = _find_fixed(head)
        return None if found is None else (found, None)
    ds64: Samples | None = None
    for name, samples in chunks(file, layout, layout.first, size):
        if name == b"ds64":  # holds the size of RIFF, then that of the data
            file.seek(samples.start + 8)
            ds64 = Samples(0, int.from_bytes(file.read(8), "little"), samples.start + 8, 8, "little")
        elif name in layout.data:
            if ds64 is not None and samples.length == 0xFFFFFFFF:
                return ds64._replace(start=samples.start), layout
            return samples, layout
    return None


def chunks(file: BinaryIO, layout: Layout, at: int, size: int) -> Iterator[tuple[bytes, Samples]]:
    """Yield (name, place) of each chunk from byte ``at`` on, also of one that runs over the end."""
    header = layout.name + layout.width
    order = "little" if layout.order == "little" else "big"
    for _ in range(CHUNKS):
        if at + header > size:
            return
        file.seek(at)
        read = file.read(header)
        length = int.from_bytes(read[layout.name :], order)
        if layout.whole and length >= header:
            length -= header
        yield read[: layout.name], Samples(at + header, length, at + layout.name, layout.width, layout.order)
        at += header + length
        at += -at % layout.pad


def fits(file: BinaryIO, layout: Layout, at: int, size: int) -> bool:
    """Return True if the bytes from ``at`` on are chunks, and the last one ends with the file."""
    end = at
    for _, samples in chunks(file, layout, at, size):
        end = samples.end
    return size - 1 <= end <= size + 1


def runs_over(file: BinaryIO, head: bytes, size: int) -> int:
    """Return the byte where a container's last chunk should end, if the file ends before it, else 0."""
    layout = LAYOUTS.get(head[:4])
    if layout is None:
        return 0
    end = 0
    for _, samples in chunks(file, layout, layout.first, size):
        end = samples.end
    return end if end > size + layout.slack else 0


def _find_fixed(head: bytes) -> Samples | None:
    """Return the place of the samples by a header of fixed layout: AU, NIST Sphere, AVR, MPC, WVE and MATLAB 4."""
    number = int.from_bytes
    if head[:4] == b".snd":
        return Samples(number(head[4:8], "big"), number(head[8:12], "big"), 8, 4, "big")
    if head[:4] == b"dns.":
        return Samples(number(head[4:8], "little"), number(head[8:12], "little"), 8, 4, "little")
    if head[:8] == b"NIST_1A\n":
        return _nist(head)
    if head[:4] == b"2BIT":
        each = number(head[14:16], "big") // 8 * (2 if head[12:14] == b"\xff\xff" else 1)
        return Samples(128, each * number(head[26:30], "big"), 0, 0, "")
    if head[:15] == b"ALawSoundFile**":
        return Samples(32, number(head[18:22], "big"), 0, 0, "")
    if head[:2] == b"\1\4" and len(head) >= 42:
        return Samples(42, (2 + 2 * (head[21] > 0)) * number(head[30:34], "little"), 0, 0, "")
    if head[20:31] == b"samplerate\0" and len(head) >= 59:  # MATLAB 4: a number, then the array
        kind, rows, columns, _, name = (number(head[i : i + 4], "little") for i in range(39, 59, 4))
        each = {0: 8, 10: 4, 20: 4, 30: 2, 40: 2, 50: 1}.get(kind, 0)
        return Samples(59 + name, each * rows * columns, 0, 0, "")
    return None


def _nist(head: bytes) -> Samples | None:
    """Read the header of NIST Sphere, the .wav of TIMIT and similar sets: lines of ``name -i value``."""
    lines = head.decode("latin-1").split("\n")
    said = {words[0]: words[2] for line in lines[2:] if len(words := line.split()) == 3}
    try:
        each = int(said.get("channel_count", "1")) * int(said["sample_n_bytes"])
        return Samples(int(lines[1]), each * int(said["sample_count"]), 0, 0, "")
    except (KeyError, ValueError, IndexError):
        return None
