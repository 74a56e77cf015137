"""A decoder's process: files of strangers become rows and faces here, where a crash costs no more than an answer.

The process holds no weights and answers one task at a time. It is confined (see ``confine``) once its libraries are
loaded, and prints nothing.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from align.media import MEDIA, Media
from align.media.choice import converter_of, medium_of, with_named
from align.media.recode import for_browsers
from align.page.faces import face_json
from align.preprocess.base import Preprocess
from align.serve.channel import READY, Failed, Shown, send
from align.serve.confine import allow_seconds, confine
from align.values import BadSample

NPY = b"\x93NUMPY"
SHOWN_POINTS = 4096  # of a mesh's surface


class Task(NamedTuple):
    """A file to decode.

    kind: "row" (the input of the modality's tower), "face" (made small for a page), "shown" (in a form that browsers
    show). data: bytes of a stranger, or the path of an indexed file.
    """

    kind: str
    modality: str
    suffix: str
    data: bytes | Path


def answer(task: Task, preprocess: Mapping[str, Preprocess], media: Media) -> Any:
    """Return a row as an array, a ``Face`` or None, a ``Shown`` or None, or ``Failed``."""
    try:
        if task.kind == "row":
            return _row(task, preprocess[task.modality], media)
        member = _as_member(task, media, SHOWN_POINTS)
        medium = medium_of(media, member.suffix, member.modality)
        if medium is None:
            return None
        data = member.data if isinstance(member.data, bytes) else member.data.read_bytes()
        if task.kind == "face":
            face = medium.face(data, member.suffix)
            if face is not None:
                face_json(face)  # raises for a face that a page cannot draw
            return face
        return _show(medium, data, member.suffix)
    except BadSample as error:
        return Failed(error.reason, error.detail)
    except MemoryError:
        return Failed("too-large", "decoding it needs more memory than the server gives")
    except Exception as error:  # a decoder's own
        return Failed("unreadable", type(error).__name__)


def run(connection: Connection, pickled: bytes, memory: int, seconds: float) -> None:
    """Answer the tasks that arrive, until the other end closes.

    memory: bytes beyond those of the start. seconds: of processor time for one task, see ``confine``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch

    torch.set_num_threads(1)
    preprocess: dict[str, Preprocess] = pickle.loads(pickled)
    for one in preprocess.values():
        one.ready()
    media = with_named(MEDIA, {m: one.medium for m, one in preprocess.items()})
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries of codecs print what they think of a damaged file
    confine(memory)
    send(connection, READY)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        allow_seconds(seconds)
        try:
            send(connection, answer(task, preprocess, media))
        except (TypeError, ValueError) as error:  # of a medium from outside, whose face is no plain data
            send(connection, Failed("unreadable", type(error).__name__))


def _row(task: Task, preprocess: Preprocess, media: Media) -> Any:
    points = max(4 * getattr(preprocess, "points", 1024), 4096)  # as the preprocess reads a mesh from a path
    source = _as_member(task, media, points).data
    return preprocess.row(source).numpy()


def _as_member(task: Task, media: Media, points: int) -> Task:
    """Return a mesh as the member that it becomes, and any other file as it is. Bytes have no files beside them."""
    converter = converter_of(media, task.suffix, task.modality)
    if converter is None or (isinstance(task.data, bytes) and task.data.startswith(NPY)):
        return task
    within = task.data.parent if isinstance(task.data, Path) else None
    stored = converter.convert(task.data, task.suffix, points=points, seed=0, within=within)
    return task._replace(data=stored.data, suffix=stored.suffix)


def _show(medium: Any, data: bytes, suffix: str) -> Shown | None:
    """Return a picture as WebP, a sound as FLAC, or None for a medium that is drawn of its face."""
    if (settings := for_browsers(medium.modality)) is None:
        return None
    stored = medium.recode(data, suffix, medium.modality, settings)
    return Shown(stored.data, stored.suffix)
