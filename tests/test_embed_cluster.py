"""The driver of the parts on a Ray cluster, with a Ray that works in this process."""

import signal
import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import tiny_cache as tiny

from align.checkpoint import save
from align.embedding import write_cache
from align.embedding.features import cluster
from align.embedding.features.cluster import write_on_ray
from align.files import sha256

pytestmark = pytest.mark.slow

SETTINGS = {
    "name": "set",
    "source": "m",
    "features": True,
    "tokens": False,
    "dtype": "float32",
    "towers": None,
    "members": None,
    "max_bad": 0.1,
    "batch": 64,
    "workers": 0,
}


class Task(Exception):
    """Ray's error around ours."""

    def __init__(self, cause):
        super().__init__()
        self.cause = cause


class Dead(Exception):
    """Ray's error of a worker that is gone."""


@pytest.fixture
def ray(monkeypatch):
    """A stand-in of Ray: ``answers`` come before those of the work, ``options`` and ``init`` are its arguments."""
    fake = ModuleType("ray")
    state = SimpleNamespace(answers=[], options={}, init=None, most=0, signals={}, address="127.0.0.1")

    class Remote:
        def __init__(self, function):
            self.function = function

        def options(self, **options):
            state.options = options
            return self

        def remote(self, *args):
            return partial(self.function, *args)

    def wait(references, num_returns):
        state.most = max(state.most, len(references))
        return references[:num_returns], references[num_returns:]

    def get(reference):
        if state.answers:
            answer = state.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return reference()

    def init(**given):
        state.init = given
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    resources = {"CPU": 4.0}
    members = {
        "is_initialized": lambda: False,
        "init": init,
        "shutdown": lambda: None,
        "remote": Remote,
        "wait": wait,
        "get": get,
        "nodes": lambda: [{"Alive": True, "Resources": resources}, {"Alive": False, "Resources": {"CPU": 64.0}}],
        "exceptions": SimpleNamespace(RayTaskError=Task, RayError=Dead),
        "util": SimpleNamespace(get_node_ip_address=lambda: state.address),
    }
    for name, member in members.items():
        setattr(fake, name, member)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(cluster, "POLL", 0.0)
    monkeypatch.setattr(cluster, "_runs", {})
    return state


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    tiny.write_shards(folder / "s")
    save(tiny.make_model(), folder / "m")
    write_cache(tiny.make_model(), str(folder / "s" / "train-*.tar"), folder / "alone", **SETTINGS)
    return folder


def write(place, out, **more):
    return write_on_ray(place / "m", [str(place / "s" / "train-*.tar")], out, SETTINGS, allow=["tiny_cache"], **more)


def sums(folder):
    return {path.name: sha256(path) for path in sorted(folder.glob("*.tar"))}


def test_parts_are_handed_out_until_all_are_there(place, tmp_path, ray):
    ray.answers = [(False, False)]  # a claim of another process
    done = []
    handler = signal.getsignal(signal.SIGTERM)
    report = write(place, tmp_path / "c", tasks=2, progress=lambda n, total: done.append(n))
    assert signal.getsignal(signal.SIGTERM) == handler
    assert (report.parts, report.made, ray.most) == (3, 3, 2)
    assert sums(tmp_path / "c" / "set") == sums(place / "alone" / "set")
    assert done[-1] == tiny.SAMPLES
    assert ray.options == {"num_cpus": 1, "num_gpus": 0, "max_retries": 10}
    assert ray.init["address"] == "local"
    assert ray.init["include_dashboard"] is False
    ray.init = None
    assert write(place, tmp_path / "c").made == 0
    assert ray.init is None  # nothing to do


def test_errors_of_workers(place, tmp_path, ray):
    ray.answers = [Task(ValueError("the image features of sample 'k1' are not finite"))]
    with pytest.raises(ValueError, match="of sample 'k1' are not finite"):
        write(place, tmp_path / "c")
    ray.answers = [Dead()]
    with pytest.raises(ConnectionError, match=r"workers of the Ray cluster keep dying \(Dead\); parts that are done"):
        write(place, tmp_path / "c")
    ray.address = "192.0.2.1"
    with pytest.raises(ConnectionError, match="listens beyond this machine"):
        write(place, tmp_path / "c")


def test_another_model_on_a_machine_of_the_cluster(place, tmp_path, ray, monkeypatch):
    usual, seen = cluster._open, []

    def differ(*args):
        run = usual(*args)
        seen.append(run)
        if len(seen) > 1:
            run.plan.about["sha256"] = "other"
        return run

    monkeypatch.setattr(cluster, "_open", differ)
    with pytest.raises(ValueError, match="or the shards differ on a machine of the cluster"):
        write(place, tmp_path / "c")
