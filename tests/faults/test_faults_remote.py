"""Row 16: shards that are empty, refused, slow or half delivered end in retries, then in a count that is right."""

from __future__ import annotations

import logging
import threading
import time

import corpus
import pytest
from tiny_data import write
from web import serving

import align.data.places.servers as servers
import align.files.retry as retry
from align.data import Loader, Shards, TooManyBad
from align.evaluation.counts import check_counts
from align.files import http
from align.preprocess import Bytes

N, EACH = 40, 8
LONGEST = 15 * 1.5  # pauses of all attempts, in units of the first, with the largest jitter


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    caplog.set_level(logging.CRITICAL, "align.data")


@pytest.fixture
def quick(monkeypatch):
    """Pauses that begin with 10 ms, and patience of 0.1 s with a body that hardly comes; returns the seconds."""
    monkeypatch.setattr(retry, "PAUSE", 0.01)
    real = http.get
    monkeypatch.setattr(http, "get", lambda *a: real(*a, timeout=0.1))
    monkeypatch.setattr(http, "SLOWEST", 1e9)
    return retry.ATTEMPTS * 0.5 + LONGEST * retry.PAUSE


@pytest.fixture
def web(tmp_path):
    write(tmp_path / "set", N, per_shard=EACH, make=lambda i: {"text.txt": b"thing %d" % i})
    with serving(tmp_path / "set") as server:
        yield server


def urls(web):
    return f"{web.url}/train-{{000000..000004}}.tar"


def read(shards):
    """(positions, keys, seconds) of an epoch as it stands."""
    began = time.monotonic()
    found = [(s["__index__"], s["__key__"]) for s in shards.samples(0)]
    return [p for p, _ in found], [k for _, k in found], time.monotonic() - began


def stays_away(web, row, failing):
    shards = Shards(urls(web), shuffle=False)
    web.faults["train-000002.tar"] = failing
    web.clear()
    positions, _, seconds = read(shards)
    reported = shards.report().get("shard/unreachable", 0)
    asked = sum(method == "GET" and "000002.tar" in name for method, name, _ in web.requests)
    moved = positions != [p for p in range(N) if not 2 * EACH <= p < 3 * EACH]
    row.measured(
        lost_not_reported=N - len(positions) - reported,
        moved=int(moved),
        requests=asked,
        seconds_to_give_up=seconds,
        lost=N - len(positions),
    )


@pytest.mark.parametrize("failing", [403, 404, 500, "half", "reset", "slow"])
def test_what_stays_away(fault, web, quick, failing):
    bar = {"lost_not_reported": 0, "moved": 0, "requests": 1 if failing in (403, 404) else retry.ATTEMPTS}
    row = fault("16", f"a shard of 8 samples always answers {failing}", **bar, seconds_to_give_up=fault.most(quick))
    stays_away(web, row, failing)


@pytest.mark.sweep
@pytest.mark.parametrize("failing", [403, 404, 500, "half", "reset", "slow"])
def test_what_stays_away_with_the_pauses_of_a_run(fault, web, failing):
    bar = {"lost_not_reported": 0, "moved": 0, "requests": 1 if failing in (403, 404) else retry.ATTEMPTS}
    budget = LONGEST * retry.PAUSE + 2 + (retry.ATTEMPTS * 32 if failing == "slow" else 0)
    name = f"a shard of 8 samples always answers {failing}, real pauses"
    stays_away(web, fault("16", name, **bar, seconds_to_give_up=fault.most(budget)), failing)


@pytest.mark.parametrize("passing", [500, "half", "reset", "slow"])
def test_what_passes(fault, web, quick, passing):
    row = fault("16", f"every shard answers {passing} twice, then well", lost=0, reported={})
    shards = Shards(urls(web), shuffle=False)
    web.faults = {f"train-{i:06d}.tar": (passing, 2) for i in range(5)}
    positions, _, seconds = read(shards)
    row.measured(lost=N - len(positions), reported=shards.report(), seconds=seconds)


def test_attempts_are_spread(fault, web, monkeypatch):
    """The pauses double, and no two readers come back at the same time."""
    row = fault("16", "pauses between 5 attempts, 20 readers", not_doubling=0, at_one_time=0)
    monkeypatch.setattr(retry, "PAUSE", 1.0)
    waits = []
    me, real = threading.get_ident(), time.sleep

    def sleep(seconds: float) -> None:
        """Of this thread: the server's and others' sleep on."""
        waits.append(seconds) if threading.get_ident() == me else real(seconds)

    monkeypatch.setattr(retry.time, "sleep", sleep)
    web.faults["train-000000.tar"] = 503
    readers = []
    for _ in range(20):
        waits.clear()
        with pytest.raises(servers.Unreachable):
            servers.fetch(servers.Remote(f"{web.url}/train-000000.tar"), 0, 10)
        readers.append(list(waits))
    wrong = sum(not 0.5 * 2**i <= w <= 1.5 * 2**i for waits in readers for i, w in enumerate(waits))
    row.measured(not_doubling=wrong, at_one_time=20 - len({w[0] for w in readers}), pauses=len(readers[0]))


@pytest.mark.parametrize("where", ["disk", "server"])
@pytest.mark.parametrize("kind", ["0 bytes", "an empty tar", "cut"])
def test_a_shard_that_holds_less_than_its_manifest(fault, web, tmp_path, where, kind):
    """What a whole shard took with it is counted by the manifest; a run and an evaluation stop for it."""
    bar = {"lost_not_reported": 0, "exit_code": 3, "evaluated": 0}
    row = fault("16", f"a shard of 8 samples is {kind}, on a {where}", **bar)
    path = tmp_path / "set" / "train-000002.tar"
    whole = path.read_bytes()
    path.write_bytes({"0 bytes": b"", "an empty tar": bytes(10240), "cut": whole[: 1024 * 3 + 700]}[kind])
    path.with_name(path.name + ".index.json").unlink()
    source = urls(web) if where == "server" else str(tmp_path / "set" / "train-*.tar")
    shards = Shards(source, shuffle=False)
    positions, _, _ = read(shards)
    reported = sum(shards.report().get(reason, 0) for reason in ("sample/lost", "sample/cut"))
    code = evaluated = 0
    try:
        for _ in Loader(shards, {"text": Bytes(context=8)}, batch=4, train=False):
            pass
    except TooManyBad as error:
        code = error.exit_code
    try:
        check_counts(shards)
        evaluated = 1
    except ValueError:
        pass
    row.measured(
        lost_not_reported=N - len(positions) - reported,
        exit_code=code,
        evaluated=evaluated,
        lost=N - len(positions),
        reported=shards.report(),
    )


def test_a_quarantined_shard_stops_a_run(fault, web, quick):
    row = fault("16", "a shard of 40 samples stays away in training", exit_code=3, said_so=1)
    folder = web.folder
    for i in range(5):
        corpus.shard(folder / f"big-{i:06d}.tar", {f"{i}/{k}": {"text.txt": b"x"} for k in range(40)})
    shards = Shards(f"{web.url}/big-{{000000..000004}}.tar")
    web.faults["big-000003.tar"] = 404
    with pytest.raises(TooManyBad) as caught:
        for _ in Loader(shards, {"text": Bytes(context=8)}, batch=8, train=True):
            pass
    row.measured(exit_code=caught.value.exit_code, said_so=int("shard/unreachable" in str(caught.value)))
