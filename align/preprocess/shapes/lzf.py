"""LZF, the compression of PCL's files: literal runs, and copies of what came before."""

from __future__ import annotations


def inflate(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that ``data`` stands for; never more are made. Raises ValueError for data that is none.

    A control byte below 32 announces so many bytes + 1 as they are. Any other has the length of a copy in its upper
    three bits (7: the next byte adds to it) and, with the byte that follows, how far back the copy begins.
    """
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end:
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            begin = len(out) - ((control & 31) << 8) - data[at] - 1
            at += 1
            length += 2
            if begin < 0:
                raise ValueError("a copy begins before the data")
            if begin + length <= len(out):
                out += out[begin : begin + length]
            else:  # it copies its own beginning
                piece = bytes(out[begin:])
                out += (piece * (length // len(piece) + 1))[:length]
            if len(out) > size:
                break
    except IndexError:
        raise ValueError("it ends inside a copy") from None
    if at > end or len(out) != size:
        raise ValueError(f"it gives {len(out)} bytes, {size} are announced")
    return bytes(out)
