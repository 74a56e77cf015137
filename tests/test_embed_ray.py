"""Parts on a Ray cluster have the bytes of one process's, also where nodes die. 60 CPU seconds in all, by hand."""

import os
import threading
import time

import pytest
import tiny_cache as tiny

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
SETTINGS = {
    "name": "set",
    "source": "m",
    "features": True,
    "tokens": False,
    "dtype": "float32",
    "towers": None,
    "members": None,
    "max_bad": 0.1,
    "batch": 2,
    "workers": 0,
}


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


def test_a_node_that_dies_between_two_parts_and_one_inside_a_part(tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    shards = tiny.write_shards(tmp_path / "s", 24, 4)
    write_cache(tiny.make_slow(0.0), shards, tmp_path / "alone", **SETTINGS)
    save(tiny.make_slow(1.0), tmp_path / "m")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    nodes, events, threads = [cluster.add_node(num_cpus=1, **SMALL)], [], []
    out = tmp_path / "c" / "set"

    def replace_node(why):
        nodes.append(cluster.add_node(num_cpus=1, **SMALL))
        cluster.remove_node(nodes[-2], allow_graceful=False)
        events.append(why)

    def kill_inside():
        until(lambda: list(out.glob(".*.tmp")))
        replace_node(f"inside {next(iter(out.glob('.*.tmp'))).name.split('.')[1]}")

    def progress(done, total):
        if done and not threads:
            assert not list(out.glob(".*.tmp"))
            replace_node("between")
            threads.append(threading.Thread(target=kill_inside, daemon=True))
            threads[0].start()

    try:
        settings = {"allow": ["tiny_cache"], "address": cluster.address, "tasks": 1, "progress": progress}
        report = write_on_ray(tmp_path / "m", [shards], tmp_path / "c", SETTINGS, **settings)
        threads[0].join(DEADLINE)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert events[0] == "between"
    assert events[1].startswith("inside train-")
    assert report.parts == report.made == 6
    assert sums(out) == sums(tmp_path / "alone" / "set")
    assert read_json(tmp_path / "c" / "cache.json") == read_json(tmp_path / "alone" / "cache.json")


def test_two_nodes_share_the_parts_and_one_dies(tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    shards = tiny.write_shards(tmp_path / "s", 24, 4)
    write_cache(tiny.make_slow(0.0), shards, tmp_path / "alone", **SETTINGS)
    save(tiny.make_slow(1.0), tmp_path / "m")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    nodes = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(2)]
    out, killed = tmp_path / "c" / "set", []

    def kill():
        until(lambda: len(list((tmp_path / "c" / ".set.work").glob("train-*.claim"))) > 1)
        killed.append(len(list(out.glob(".*.tmp"))))
        cluster.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        settings = {"allow": ["tiny_cache"], "address": cluster.address}
        report = write_on_ray(tmp_path / "m", [shards], tmp_path / "c", SETTINGS, **settings)
        thread.join(DEADLINE)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed
    assert report.parts == 6
    assert sums(out) == sums(tmp_path / "alone" / "set")


def test_the_command_on_a_cluster_of_this_machine(tmp_path, capsys):
    pytest.importorskip("ray")
    tiny.write_shards(tmp_path / "s")
    save(tiny.make_model(), tmp_path / "m")
    for out, more in (("a", []), ("b", ["--executor", "ray"])):
        args = [str(tmp_path / "m"), str(tmp_path / "s" / "*.tar"), "--out", str(tmp_path / out), "--features"]
        assert main(["embed", *args, "--name", "x", "--max-bad", "0.1", "--allow", "tiny_cache", *more]) == 0
    assert "wrote 3 of 3 parts" in capsys.readouterr().err
    assert sums(tmp_path / "a" / "x") == sums(tmp_path / "b" / "x")
