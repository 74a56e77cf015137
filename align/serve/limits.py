"""Bounds of the server: sizes, counts, lengths and deadlines. Nothing that a visitor sends is without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Limits:
    """Bounds of requests and of the work for them.

    Args:
        body: bytes of a request's body. form: of a form without files, which is texts alone.
        bodies: bytes of all bodies that are in memory at one time.
        head_seconds, body_seconds: time in which a request's head and its body must arrive.
        send_seconds: time in which a client must take some of an answer that it has stopped to read.
        decode_seconds, decode_memory: time and bytes (beyond those of its start) of a decoder for one file.
        decoders: processes that decode. waiting: files that may wait for one.
        window: seconds that a row waits for others, to be embedded with them. batch: rows embedded together.
        queue: rows that may wait to be embedded.
        parts: of a query. k: hits of a search. text: characters of a text. where: characters of a filter as JSON.
        inputs: of one request for embeddings. commas: of a body of JSON, which bound the values that it becomes.
        classes, templates: of a classification. prompts: of both, each class in each template.
        name: characters of a class.
        fields: of a form. connections: open at one time.
        drain_seconds: time that open requests get to finish after SIGTERM.
    """

    body: int = 32 << 20
    form: int = 1 << 20
    bodies: int = 256 << 20
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    send_seconds: float = 30.0
    decode_seconds: float = 15.0
    decode_memory: int = 1 << 30
    decoders: int = 2
    waiting: int = 64
    window: float = 0.003
    batch: int = 64
    queue: int = 512
    parts: int = 8
    k: int = 1000
    text: int = 4000
    where: int = 20_000
    inputs: int = 256
    commas: int = 1 << 20
    classes: int = 1000
    templates: int = 32
    prompts: int = 4000
    name: int = 200
    fields: int = 64
    connections: int = 512
    drain_seconds: float = 30.0
