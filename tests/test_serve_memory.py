"""The server keeps nothing of a request: rounds of the same requests leave no more objects and no more bytes behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import platform
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable

import httpx
import pytest
from served import COLOURS, load, picture, serving, tone
from test_serve_safety import LIMITS, uri

from align.serve.metrics import resident
from align.serve.trim import trim, trim_often

ROUND = 2  # times all kinds
ROUNDS = 3
OBJECTS, BYTES = 0.2, 100.0  # for a request: five of them would leave an object, or one a short head


def list_kinds() -> list[Callable[[httpx.Client], httpx.Response]]:
    """Requests of each route, with bodies of several forms, and some that are refused."""
    red, sound = picture(COLOURS["red"]), tone(300)
    part = {"modality": "image", "data": uri(red, "a.png")}
    json = [
        ("/v1/search", {"query": "red", "of": "image"}),
        ("/v1/search", {"parts": [part], "of": "text", "where": {"label": "red"}, "fold": True}),
        ("/v1/search", {"like": 1, "of": "audio", "threshold": 0.1}),
        ("/v1/search", {"query": "red", "text": "thing", "of": "points"}),
        ("/v1/embeddings", {"input": ["red", "b"]}),
        ("/v1/embeddings", {"input": {"image": uri(red, "a.png")}}),
        ("/v1/embeddings", {"input": {"image": uri(red[:40], "a.png")}}),
        ("/v1/search", {"query": "red", "of": "nothing"}),
    ]
    paths = ["/v1/items/1", "/v1/items/99", "/v1/items/1/media/image", "/v1/items/1/face/points", "/v1/facets", "/none"]
    paths += ["/", "/?text=red&of=image", "/healthz", "/v1/items/1/media/image?form=original", "/metrics", "/docs"]
    return [
        *(lambda client, path=path, body=body: client.post(path, json=body) for path, body in json),
        *(lambda client, path=path: client.get(path) for path in paths),
        lambda client: client.get("/v1/items/1/media/audio", headers={"range": "bytes=0-9"}),
        lambda client: client.post("/v1/search", files={"audio": ("a.flac", sound)}, data={"of": "image"}),
        lambda client: client.post(
            "/v1/classify", files={"image": ("a.png", red)}, data={"classes": "red,green", "modality": "image"}
        ),
        lambda client: client.post("/v1/search", content=b"{"),
        lambda client: client.get("/v1/models", headers={"connection": "close"}),
        lambda client: client.get("/v1/models", headers={"host": "evil.example"}),
    ]


def count_objects() -> int:
    """Weak references come and go with the caches of abstract classes, by 70 a round."""
    return sum(type(one) is not weakref.ref for one in gc.get_objects())


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Growth of objects and of bytes for a request, in each round after two that fill caches."""
    kinds, states, statuses = list_kinds(), [], set()
    with serving(load(tmp_path_factory.mktemp("memory"), LIMITS), LIMITS) as (url, _):
        tracemalloc.start()
        try:
            for number in range(ROUNDS + 2):
                with httpx.Client(base_url=url, timeout=60) as client:
                    for _ in range(1 if number == 0 else ROUND):
                        statuses |= {ask(client).status_code for ask in kinds}
                    client.get("/healthz")  # the server has ended the one before
                time.sleep(0.3)  # connections have ended
                for _ in range(3):
                    gc.collect()
                states.append((count_objects(), tracemalloc.get_traced_memory()[0]))
        finally:
            tracemalloc.stop()
    assert {200, 206, 400, 404, 421, 422} <= statuses
    assert max(statuses) < 500
    pairs = itertools.pairwise(states[1:])
    n = ROUND * len(kinds)
    return [((after[0] - before[0]) / n, (after[1] - before[1]) / n) for before, after in pairs]


@pytest.mark.sweep
def test_no_object_of_a_request_stays(grown):
    """A leak grows in every round. A cache that fills or a module that is imported late does not."""
    assert min(objects for objects, _ in grown) < OBJECTS, grown


@pytest.mark.sweep
def test_no_bytes_of_a_request_stay(grown):
    assert min(size for _, size in grown) < BYTES, grown


def test_freed_memory_goes_back_to_the_system():
    """Blocks with one in use behind them: the C library keeps their pages until it is told to give them back."""
    if platform.libc_ver()[0] != "glibc":
        assert not trim()
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    size = 100_000  # below the size that is mapped by itself
    blocks = [libc.malloc(size) for _ in range(500)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:
        libc.free(block)
    before = resident()
    assert trim()
    assert before - resident() > 300 * size
    libc.free(blocks[-1])


def test_the_server_trims_again_and_again(monkeypatch):
    calls = []
    monkeypatch.setattr("align.serve.trim.trim", lambda: not calls.append(1) and len(calls) < 3)
    asyncio.run(asyncio.wait_for(trim_often(0.001), 10))
    assert len(calls) == 3


def test_a_server_begins_to_trim(tmp_path, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr("align.serve.trim.trim", told.set)  # None: it is not asked again
    with serving(load(tmp_path, LIMITS), LIMITS):
        assert told.wait(20)
