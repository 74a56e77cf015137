"""Parts of a file, with some bytes replaced, read as one file: libsndfile receives a mended header."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, BinaryIO


class Joined(io.RawIOBase):
    """File to read, made of parts: bytes, or the (start, end) of a piece of ``file``, and then ``zeros`` bytes of 0."""

    def __init__(self, file: BinaryIO, parts: Sequence[bytes | tuple[int, int]], zeros: int = 0):
        self.file, self.at = file, 0
        self.parts = [part for part in parts if (len(part) if isinstance(part, bytes) else part[1] - part[0])]
        sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in self.parts]
        self.starts = [0, *accumulate(sizes)]
        self.size = self.starts[-1] + zeros

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done, want = 0, max(0, min(len(view), self.size - self.at))
        while done < want:
            n = self._piece(view[done:want])
            if n == 0:
                break
            done, self.at = done + n, self.at + n
        return done

    def _piece(self, view: memoryview) -> int:
        """Copy bytes of the part at the file's position into ``view``, and return their number."""
        i = bisect_right(self.starts, self.at) - 1
        if i == len(self.parts):
            view[:] = bytes(len(view))
            return len(view)
        part, at = self.parts[i], self.at - self.starts[i]
        n = min(len(view), self.starts[i + 1] - self.at)
        if isinstance(part, bytes):
            view[:n] = part[at : at + n]
            return n
        self.file.seek(part[0] + at)
        read = self.file.read(n)
        view[: len(read)] = read
        return len(read)
