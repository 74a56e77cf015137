"""Answers of a decoder on their way to the server: JSON and raw bytes, so that nothing of a decoder is unpickled.

A decoder has read a stranger's file. Where the file has taken it over, its answer is a wrong row or a wrong picture,
and never code that runs in the server.
"""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, cast, get_args

from align.media.medium import Element, Face
from align.serve.kinds import OPAQUE, media_type

KINDS = "fiub"  # of numbers: floats, integers, and true and false
DETAIL = 500  # characters
READY = "ready"
TYPES = ("image/", "audio/")


class Failed(NamedTuple):
    """The reason for which a file cannot be decoded."""

    reason: str
    detail: str


class Shown(NamedTuple):
    """Bytes in a form that browsers show, and their suffix."""

    data: bytes
    suffix: str

    @property
    def type(self) -> str:
        """The type that the bytes are sent as."""
        return media_type(self.suffix)


def send(connection: Connection, answer: Any) -> None:
    """Send a row (an array), a ``Face``, a ``Shown``, a ``Failed``, "ready" or None."""
    parts: list[bytes] = []
    connection.send_bytes(json.dumps(_write(answer, parts)).encode())
    for part in parts:
        connection.send_bytes(part)


def receive(connection: Connection, most: int) -> Any:
    """Return the next answer. most: bytes of one of its parts.

    Raises EOFError where the other end is gone, OSError for a part that is too large, and ValueError for an answer
    that is none of ours.
    """
    import numpy as np

    try:
        kind, about = json.loads(connection.recv_bytes(most))
        match kind:
            case "row":
                dtype, shape = np.dtype(about["dtype"]), [int(n) for n in about["shape"]]
                if dtype.kind not in KINDS:
                    raise ValueError("it is no row of numbers")
                return np.frombuffer(bytearray(connection.recv_bytes(most)), dtype).reshape(shape)
            case "face":
                data, more = (_read(x, connection, most) for x in (about["data"], about["more"]))
                return _check(Face(about["element"], data, more))
            case "shown":
                shown = Shown(connection.recv_bytes(most), str(about["suffix"]))
                if shown.type == OPAQUE:
                    raise ValueError("it is of no type that is shown")
                return shown
            case "failed":
                return Failed(str(about["reason"])[:DETAIL], str(about["detail"])[:DETAIL])
            case "plain" if about in (None, READY):
                return about
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"an answer that cannot be read ({type(error).__name__})") from None
    raise ValueError("an answer of no known kind")


def _write(answer: Any, parts: list[bytes]) -> tuple[str, Any]:
    match answer:
        case Failed():
            return "failed", answer._asdict()
        case Shown():
            parts.append(answer.data)
            return "shown", {"suffix": answer.suffix}
        case Face():
            data, more = _pack(answer.data, parts), _pack(dict(answer.more), parts)
            return "face", {"element": answer.element, "data": data, "more": more}
        case None | str():
            return "plain", answer
        case _:
            parts.append(answer.tobytes())
            return "row", {"dtype": answer.dtype.str, "shape": answer.shape}


def _pack(value: Any, parts: list[bytes]) -> Any:
    """Return plain data with an empty object in place of bytes, which go to the parts in their order."""
    if isinstance(value, bytes | bytearray | memoryview):
        parts.append(bytes(value))
        return {}
    if isinstance(value, dict):
        return {"named": [[str(name), _pack(inner, parts)] for name, inner in value.items()]}
    if isinstance(value, str | int | float | None):
        return value
    if hasattr(value, "tolist"):  # an array, or a number of NumPy's
        return value.tolist()
    return [_pack(inner, parts) for inner in value]


def _read(value: Any, connection: Connection, most: int) -> Any:
    if value == {}:
        return connection.recv_bytes(most)
    if isinstance(value, dict):
        return {name: _read(inner, connection, most) for name, inner in value["named"]}
    if isinstance(value, list):
        return [_read(inner, connection, most) for inner in value]
    return value


def _check(face: Face) -> Face:
    """Return a face whose element and type a page knows. Raises ValueError for another."""
    if not isinstance(face.more, dict):
        raise ValueError("it is no face")
    typed = face.more.get("type") if face.element in ("picture", "sound") else TYPES[0]
    if face.element not in get_args(Element) or not cast(Any, typed).startswith(TYPES):
        raise ValueError("it is no face")
    return face
