"""Vector servers that take a connection and never answer: searches and the health of a server end soon."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest

from align.search.finder import Unavailable
from align.search.remote import Remote, backend
from align.search.remote.milvus import MilvusStore
from align.search.remote.pause import Pause
from align.search.remote.qdrant import QdrantStore


@contextmanager
def hanging():
    """The URL of a server that takes connections and reads nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.sweep
@pytest.mark.parametrize("kind", [MilvusStore, QdrantStore])
def test_a_server_that_hangs_is_asked_by_one_request_at_a_time(kind, monkeypatch):
    monkeypatch.setattr(backend, "PATIENCE", 0.5)
    with hanging() as url:
        store = kind(url, patience=2.0)
        said: list[str] = []

        def ask():
            with pytest.raises(Unavailable, match=f"{url} does not answer") as caught:
                store.list_names()
            said.append(str(caught.value))

        begun = time.monotonic()
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(said) == 4
        assert time.monotonic() - begun < 3.5  # not 2 s for each
        begun = time.monotonic()
        for _ in range(3):
            ask()
        assert "does not answer" in Remote(store, "name").trouble()
        assert time.monotonic() - begun < 0.5  # the pause
        store.connection.pause = Pause()  # it is over
        store.connection.pause.failed = True
        begun = time.monotonic()
        assert "does not answer within 0.5 s" in Remote(store, "name").trouble()
        assert time.monotonic() - begun < 1.5


def test_a_pause():
    pause = Pause(long=0.0, pause=0.2)
    pause.check()
    pause.note_failure(time.monotonic(), "no answer")
    assert pause.failed
    with pytest.raises(Unavailable, match="no answer"):
        pause.check()
    time.sleep(0.25)
    pause.check()  # one tries again
    with pytest.raises(Unavailable, match="no answer"):
        pause.check()
    pause.note_answer()
    assert not pause.failed
    pause.check()
    patient = Pause(long=60.0)
    patient.note_failure(time.monotonic(), "refused at once")
    patient.check()
