"""Parts on a Ray cluster have the bytes of one process's, also where nodes die. 25 CPU seconds in all, by hand."""

import os
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
import tiny_cache as tiny
from test_embed_cluster import SETTINGS as TINY

from align.checkpoint import save
from align.commands import main
from align.embedding import write_cache
from align.embedding.features.cluster import set_variables, write_on_ray
from align.files import read_json, sha256

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of each release
]

SMALL = {"object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}
SETTINGS = TINY | {"batch": 2}


set_variables(local=True)  # before Ray is imported
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine a node starts slowly
DEADLINE = 300


def until(condition):
    """Wait for something, not for ever."""
    end = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def sums(folder):
    return {path.name: sha256(path) for path in sorted(folder.glob("*.tar"))}


def start_node(cluster):
    """Return a new node. Ray gives up after 30 seconds, which a busy machine needs for one alone."""
    for _ in range(5):
        with suppress(Exception):  # Ray raises the class itself
            return cluster.add_node(num_cpus=1, **SMALL)
    raise TimeoutError("no node of Ray starts here")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two nodes of one CPU each, beside a head that does no work."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("TINY_NODE", str(tmp_path / "node"))
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    try:
        cluster.nodes = [start_node(cluster) for _ in range(2)]
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def world(tmp_path):
    """Six shards, a slow model, and the parts of one process."""
    shards = tiny.write_shards(tmp_path / "s", 24, 4)
    write_cache(tiny.make_slow(0.0), shards, tmp_path / "alone", **SETTINGS)
    save(tiny.make_slow(1.0), tmp_path / "m")
    return shards


def run_on(cluster, tmp_path, shards, **more):
    settings = {"allow": ["tiny_cache"], "address": cluster.address, **more}
    report = write_on_ray(tmp_path / "m", [shards], tmp_path / "c", SETTINGS, **settings)
    assert report.parts == 6
    assert sums(tmp_path / "c" / "set") == sums(tmp_path / "alone" / "set")
    assert read_json(tmp_path / "c" / "cache.json") == read_json(tmp_path / "alone" / "cache.json")
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"cache.json", "set"}


def test_a_node_that_dies_between_two_parts(cluster, tmp_path, world):
    killed = []

    def progress(done, total):
        if done and not killed:  # one part at a time is handed out, so none is being written now
            assert not list((tmp_path / "c" / "set").glob(".*.tmp"))
            (node,) = [n for n in cluster.nodes if n.node_id == (tmp_path / "node").read_text()]
            killed.append(done)
            cluster.remove_node(node, allow_graceful=False)

    run_on(cluster, tmp_path, world, tasks=1, progress=progress)
    assert killed == [4]


def test_a_node_that_dies_inside_a_part(cluster, tmp_path, world):
    killed = []

    def kill():
        until(lambda: len(list((tmp_path / "c" / ".set.work").glob("train-*.claim"))) > 1)  # both are inside one
        killed.append(len(list((tmp_path / "c" / "set").glob("*.tar"))))
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    run_on(cluster, tmp_path, world)
    thread.join(DEADLINE)
    assert killed
    assert killed[0] < 6


def test_the_command_on_a_cluster_of_this_machine(tmp_path, capsys):
    pytest.importorskip("ray")
    tiny.write_shards(tmp_path / "s")
    save(tiny.make_model(), tmp_path / "m")
    for out, more in (("a", []), ("b", ["--executor", "ray"])):
        args = [str(tmp_path / "m"), str(tmp_path / "s" / "*.tar"), "--out", str(tmp_path / out), "--features"]
        assert main(["embed", *args, "--name", "x", "--max-bad", "0.1", "--allow", "tiny_cache", *more]) == 0
    assert "wrote 3 of 3 parts" in capsys.readouterr().err
    assert sums(tmp_path / "a" / "x") == sums(tmp_path / "b" / "x")
