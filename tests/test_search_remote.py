"""Rows of an index in Milvus and Qdrant: the same answers as exact search, and nothing lost where a server dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torch.nn.functional as F
from few import only
from milvus_server import MilvusServer
from qdrant_server import run_qdrant
from tiny_index import D, fill, random

from align.search.finder import Stale, Unavailable
from align.search.hits import read_rows
from align.search.local import LocalIndex
from align.search.remote import Remote, connect, is_address, proposals, read_address
from align.search.remote.address import Address
from align.search.remote.keys import TOP, cut_blocks, digest_rows, make_keys, read_numbers
from align.search.remote.mark import Mark
from align.search.remote.milvus import MilvusStore
from align.search.remote.qdrant import QdrantStore

pytestmark = [  # the client in memory says what it does not need
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
FACTS = {"index": "test", "model": "m" * 64, "dim": D, "generation": 3}


@pytest.fixture(scope="module")
def milvus(tmp_path_factory):
    server = MilvusServer(tmp_path_factory.mktemp("milvus") / "data")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def qdrant(tmp_path_factory):
    """The URL of a Qdrant server, whose program is on the path or in $QDRANT."""
    program = os.environ.get("QDRANT") or shutil.which("qdrant")
    if not program:
        pytest.skip("needs a Qdrant server: no program qdrant on the path, or named by $QDRANT")
    folder = tmp_path_factory.mktemp("qdrant")
    with run_qdrant(program, folder) as url:
        yield url


BACKENDS = ["milvus FLAT", "milvus HNSW", "qdrant in memory", "qdrant"]


@pytest.fixture(params=only(BACKENDS, "milvus FLAT", "qdrant in memory", "qdrant"))
def remote(request, milvus):
    """A backend with no collections."""
    if request.param == "qdrant":
        backend = connect(f"qdrant:{request.getfixturevalue('qdrant')}", index="test")
        yield backend
        for name in backend.store.list_names():
            backend.store.drop(name)
        return
    if request.param == "qdrant in memory":
        from qdrant_client import QdrantClient

        yield Remote(QdrantStore("http://memory", client=QdrantClient(":memory:")), "qdrant:http://memory", "test")
        return
    backend = connect(f"milvus:{milvus.url}", index="test", kind=request.param.split()[1])
    yield backend
    for name in backend.store.list_names():
        backend.store.drop(name)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index with holes, several rows a sample, ties and deleted samples."""
    with LocalIndex.create(tmp_path_factory.mktemp("index") / "idx") as index:
        fill(index, 90)
        index.delete([f"k{i:03d}" for i in range(0, 90, 9)])
        yield index


def blocks(index, of, size=25):
    values, sample = read_rows(index, of, index.numbers(of))
    unit = F.normalize(values, dim=1)
    for start in range(0, len(sample), size):
        yield unit[start : start + size], sample[start : start + size]


def best_scores(index, of, query):
    """Sample -> the product of its best row with one query, by a loop."""
    values, sample = next(blocks(index, of, 10**6))
    best: dict[int, float] = {}
    for row, number in zip(values, sample.tolist(), strict=True):
        best[number] = max(best.get(number, -2.0), float(row @ query))
    return best


def make(remote, index, of="image", rows=None, **facts):
    facts = {**FACTS, **facts}
    return facts | remote.make(of, blocks(index, of) if rows is None else rows, facts)


def check_best(index, of, query, found, n, among=None):
    """Compare proposals with all scores: as many as there are, none twice, none better left out."""
    for row, mine in zip(query, found.tolist(), strict=True):
        scores = best_scores(index, of, row)
        if among is not None:
            scores = {number: x for number, x in scores.items() if number in among.tolist()}
        mine = [number for number in mine if number >= 0]
        assert len(set(mine)) == len(mine) == min(n, len(scores))
        wanted = sorted(scores.values(), reverse=True)[:n]
        assert [scores[number] for number in mine] == pytest.approx(wanted, abs=1e-5)  # ties go either way


def test_proposals_are_the_exact_ones(remote, index, monkeypatch):
    query = F.normalize(random(3, 1), dim=1)
    for of in ("image", "text"):
        finder = remote.open(of, make(remote, index, of))
        numbers = index.numbers(of)
        for among in (None, numbers[::3], numbers[:1], torch.cat([numbers[5:40], torch.tensor([10**6])])):
            for few in (4096, 0):  # named to the server, or filtered here
                monkeypatch.setattr(proposals, "FEW", few)
                for n in (1, 10, 200):
                    found = finder.propose(query, n, among)
                    assert found.shape == (3, n)
                    check_best(index, of, query, found, n, among)
    assert finder.propose(query, 3, torch.tensor([], dtype=torch.long)).tolist() == [[-1] * 3] * 3
    assert finder.propose(query[:0], 3).shape == (0, 3)
    with pytest.raises(ValueError, match=r"is \(q, 8\); got \(2, 5\)"):
        finder.propose(torch.ones(2, 5), 3)


def test_more_than_one_answer_may_have(remote, index, monkeypatch):
    """A server's limit on answers does not end a search, nor the reading of keys."""
    finder = remote.open("image", make(remote, index))
    monkeypatch.setattr(type(remote.store), "most", 8)
    query = F.normalize(random(2, 5), dim=1)
    check_best(index, "image", query, finder.propose(query, 40), 40)
    among = index.numbers("image")[::2]
    check_best(index, "image", query, finder.propose(query, 20, among), 20, among)
    monkeypatch.setattr(proposals, "FEW", 3)
    check_best(index, "image", query, finder.propose(query, 20, among), 20, among)
    assert len(remote.store.keys(finder.mark.name, 0, TOP)) == index.modalities["image"]


def test_a_push_sends_what_has_changed(remote, index):
    total = index.modalities["image"]
    first = make(remote, index) | {"rows": total}
    remote.check("image", first)
    assert remote.is_whole("image", first)
    with pytest.raises(ValueError, match=f"the mirror of image has {total} rows, the index {total + 1}"):
        remote.check("image", first | {"rows": total + 1})
    assert (first["sent"], first["removed"]) == (total, 0)
    again = make(remote, index, generation=4)
    assert (again["sent"], again["removed"]) == (0, 0)
    with pytest.raises(Stale, match="image was changed by another"):
        remote.open("image", first)
    with pytest.raises(ValueError, match="image was changed by another"):
        remote.check("image", first)
    assert not remote.is_whole("image", first)

    values, sample = next(blocks(index, "image", 10**6))
    gone = int(sample[0])
    other = values.clone()
    other[-1] = -other[-1]
    kept = sample != gone
    facts = make(remote, index, rows=iter([(other[kept], sample[kept])]), generation=5)
    assert (facts["sent"], facts["removed"]) == (1, int((~kept).sum()))
    finder = remote.open("image", facts)
    assert finder.propose(other[-1:], 1)[0, 0] == sample[-1]
    assert gone not in finder.propose(values[:1], 200)
    facts = make(remote, index, rows=iter([]), generation=6)
    assert (facts["sent"], facts["removed"]) == (0, int(kept.sum()))
    assert finder.store.keys(finder.mark.name, 0, TOP) == {}
    assert remote.open("image", facts).propose(values[:1], 3).tolist() == [[-1, -1, -1]]


def test_a_stopped_push_goes_on(remote, index, monkeypatch):
    rows = list(blocks(index, "image", 20))
    monkeypatch.setattr(type(remote.store), "block", lambda self, dim: 20)

    def stopped():
        yield from rows[:2]
        raise KeyboardInterrupt

    whole = make(remote, index)
    with pytest.raises(KeyboardInterrupt):
        make(remote, index, rows=stopped(), generation=4)
    with pytest.raises(Stale, match="image is not whole"):
        remote.open("image", whole)
    remote.drop()
    with pytest.raises(KeyboardInterrupt):
        make(remote, index, rows=stopped())
    facts = make(remote, index)
    assert 0 < facts["sent"] < index.modalities["image"]
    query = F.normalize(random(2, 5), dim=1)
    check_best(index, "image", query, remote.open("image", facts).propose(query, 10), 10)


def test_a_lost_mirror_is_made_again(remote, index):
    facts = make(remote, index)
    finder = remote.open("image", facts)
    remote.drop()
    assert remote.store.list_names() == []
    for ask in (lambda: remote.open("image", facts), lambda: finder.propose(random(1, 1), 3)):
        with pytest.raises(Stale, match="gone"):
            ask()
    facts = make(remote, index)
    assert facts["sent"] == index.modalities["image"]
    check_best(index, "image", random(1, 1), remote.open("image", facts).propose(random(1, 1), 10), 10)


def test_a_collection_that_is_not_ours_stays(remote, index):
    ours = Mark("test", "image", D, "m" * 64)
    wrong = {
        "is not of align": None,
        "has schema 9": replace(ours, align=9),
        r"is of another index \(theirs, image\)": replace(ours, index="theirs"),
        "has rows of 5 numbers, the index of 8": replace(ours, dim=5),
        "compares by COSINE": replace(ours, metric="COSINE"),
        "is of another model": replace(ours, model="x" * 64),
    }
    for said, mark in wrong.items():
        put_stranger(remote.store, ours.name, D if mark is None else mark.dim, mark, "IP")
        before = remote.store.describe(ours.name)
        for act in (lambda: remote.check_place("image", FACTS), lambda: make(remote, index)):
            with pytest.raises(ValueError, match=said) as caught:
                act()
            assert "\n" not in str(caught.value)
            assert remote.store.where in str(caught.value)
        assert remote.store.describe(ours.name) == before
        remote.store.drop(ours.name)
    put_stranger(remote.store, ours.name, D, ours, "L2")
    with pytest.raises(ValueError, match=r"compares by (L2|Euclid), the index by IP"):
        make(remote, index)
    remote.store.drop(ours.name)
    put_stranger(remote.store, ours.name, D, replace(ours, index="theirs"), "IP")
    remote.drop()
    assert remote.store.list_names() == [ours.name]  # of another index


def test_a_modality_that_is_gone_takes_its_mirror_along(remote, index):
    made = {of: make(remote, index, of) for of in ("image", "text")}
    remote.sweep({"text": made["text"]})
    assert remote.store.list_names() == ["align_test_text"]


def put_stranger(store, name, dim, mark, metric):
    """Make a collection by the server's own client."""
    client = store.connection.open()
    if isinstance(store, QdrantStore):
        from qdrant_client import models

        distance = {"IP": models.Distance.DOT, "L2": models.Distance.EUCLID}[metric]
        client.create_collection(
            name, models.VectorParams(size=dim, distance=distance), metadata=None if mark is None else mark.plain()
        )
        return
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("row", DataType.FLOAT_VECTOR, dim=dim)
    params = client.prepare_index_params()
    params.add_index("row", index_type="FLAT", metric_type=metric)
    marked = {} if mark is None else {"properties": {"align": json.dumps(mark.plain())}}
    client.create_collection(name, schema=schema, index_params=params, **marked)


def test_a_making_that_was_killed_is_ended(milvus, index):
    """A kill between the collection and its index in Milvus leaves a collection that the next push completes."""
    remote = connect(f"milvus:{milvus.url}", index="half")
    facts = {**FACTS, "index": "half"}
    remote.store.create(Mark("half", "image", D, "m" * 64))
    made = facts | remote.make("image", blocks(index, "image"), facts)
    check_best(index, "image", random(1, 1), remote.open("image", made).propose(random(1, 1), 10), 10)
    remote.drop()


@pytest.mark.slow  # 8 s: it starts the server twice
def test_a_server_that_dies(milvus, index, monkeypatch):
    """Killed in the middle of a push and of a search: one line each, and after its start all goes on."""
    remote = connect(f"milvus:{milvus.url}", index="dies")
    facts = {**FACTS, "index": "dies"}
    monkeypatch.setattr(MilvusStore, "block", lambda self, dim: 20)

    def killed():
        for i, block in enumerate(blocks(index, "image", 20)):
            if i == 3:
                milvus.kill()
            yield block

    try:
        with pytest.raises(Unavailable, match=f"Milvus at {milvus.url} does not answer: ") as caught:
            remote.make("image", killed(), facts)
        assert "\n" not in str(caught.value)
        with pytest.raises(Unavailable, match="does not answer"):
            connect(f"milvus:{milvus.url}").check_place("image", facts)
        with pytest.raises(Unavailable, match=f"no server answers at {milvus.url}; is it running"):
            read_address(milvus.url)
        milvus.start()
        made = facts | remote.make("image", blocks(index, "image", 20), facts)
        assert 0 < made["sent"] < index.modalities["image"]
        finder = remote.open("image", made)
        query = F.normalize(random(2, 5), dim=1)
        check_best(index, "image", query, finder.propose(query, 10), 10)
        milvus.kill()
        with pytest.raises(Unavailable, match="does not answer"):
            finder.propose(query, 10)
        assert re.fullmatch(f"Milvus at {milvus.url} does not answer: .*refused", remote.trouble())
        milvus.start()
        assert remote.trouble() == ""
        check_best(index, "image", query, finder.propose(query, 10), 10)  # no second opening, no second push
    finally:
        if milvus.process is None:
            milvus.start()
        remote.drop()


def test_addresses(milvus):
    assert read_address(milvus.url) == ("milvus", milvus.url)  # asked
    assert read_address("qdrant:https://a.b:6333/") == Address("qdrant", "https://a.b:6333")
    assert str(read_address("Milvus:http://a.b:1")) == "milvus:http://a.b:1"
    assert not is_address("hnsw")
    for wrong, said in {
        "http://u:secret@host": "has a password, which the index would keep; put it in ALIGN_MILVUS_TOKEN",
        "pinecone:http://host": "names no server that is known",
        "ftp://host": "is no address of a server",
        "http://host:port": "is no address of a server",
        "http://": "is no address of a server",
        "milvus:http://host/path": "is no address of a server; an address is http://HOST:PORT, or milvus:http",
    }.items():
        with pytest.raises(ValueError, match=said) as caught:
            read_address(wrong)
        assert "secret" not in str(caught.value)


def test_qdrant_says_its_name():
    with answering({"title": "qdrant - vector search engine", "version": "1.16.0"}) as url:
        assert read_address(url) == ("qdrant", url)
    with answering({"title": "another"}) as url:
        assert read_address(url) == ("milvus", url)


@contextmanager
def answering(body, status=200):
    """A web server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, PermissionError, "refuses the key; set ALIGN_QDRANT_KEY"),
        (403, PermissionError, "refuses the key; set ALIGN_QDRANT_KEY"),
        (404, Stale, "gone"),
        (500, Unavailable, "does not answer: Unexpected Response: 500"),
        (503, Unavailable, "does not answer: Unexpected Response: 503"),
    ],
)
def test_errors_of_qdrant_over_http(status, kind, said):
    with answering({"status": {"error": "no"}}, status) as url:
        with pytest.raises(kind, match=said) as caught:
            connect(f"qdrant:{url}").store.list_names()
        assert "\n" not in str(caught.value)


def test_qdrant_is_away():
    with answering({}) as url:
        pass
    with pytest.raises(Unavailable, match=f"Qdrant at {url} does not answer: .*refused"):
        connect(f"qdrant:{url}").check_place("image", FACTS)
    assert "refused" in connect(f"qdrant:{url}").trouble()
    with answering({}, 500) as url:
        backend = connect(f"qdrant:{url}")
        assert backend.trouble() == ""
        with pytest.raises(Unavailable):
            backend.store.list_names()
        assert "Unexpected Response: 500" in backend.trouble()


def test_a_missing_client_names_its_extra(monkeypatch):
    for name, kind, extra in (("pymilvus", "milvus", "milvus"), ("qdrant_client", "qdrant", "qdrant")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf"needs .*pip install .*\[{extra}\]"):
            connect(f"{kind}:http://localhost:1")


def test_keys():
    numbers = torch.tensor([3, 3, 3, 7, 9, 9])
    keys = make_keys(numbers)
    assert len(set(keys.tolist())) == 6
    assert read_numbers(keys).tolist() == numbers.tolist()
    assert bool((keys[1:] > keys[:-1]).all())
    assert read_numbers(torch.tensor([-1])).tolist() == [-1]
    with pytest.raises(ValueError, match="sample 4 has more than 16384 rows"):
        make_keys(torch.tensor([3] + [4] * 16385))
    rows = random(4, 1)
    rows[2] = rows[0]
    digests = digest_rows(rows)
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3
    assert all(-(2**63) <= x < 2**63 for x in digests)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_blocks_end_where_samples_end(size):
    numbers = torch.tensor([1, 2, 2, 2, 3, 5, 5, 8])
    values = random(8, 1)
    for cut in range(9):
        given = [(values[:cut], numbers[:cut]), (values[cut:], numbers[cut:])]
        got = list(cut_blocks(iter(given), size))
        assert torch.cat([v for v, _ in got]).equal(values)
        assert torch.cat([n for _, n in got]).equal(numbers)
        seen: set[int] = set()
        for _, some in got:
            assert len(some) <= size or len(some.unique()) == 1
            assert not seen & set(some.tolist())
            seen |= set(some.tolist())
    with pytest.raises(ValueError, match="ascending"):
        list(cut_blocks(iter([(values[:2], torch.tensor([2, 1]))]), 1))
