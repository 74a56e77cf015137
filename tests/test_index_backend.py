"""``align index backend`` and the commands that use, mention and throw away what it made."""

import os
import re
import signal

import pytest
import tiny_space

from align.checkpoint import save
from align.commands import index_backend, main
from align.search.ann.kinds import KINDS

trust = ["--allow", "tiny_space"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backend")
    samples = list(tiny_space.world().items())
    tiny_space.write_tar(folder / "shards" / "a-000000.tar", dict(samples[:18]))
    tiny_space.write_tar(folder / "more" / "a-000000.tar", dict(samples[18:24]))
    save(tiny_space.model("pairwise"), folder / "pairs")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("align.search.made.DEEPER", 1)
    for name, kind in KINDS.items():
        monkeypatch.setitem(KINDS, name, kind._replace(rerank=3))


def test_from_the_building_to_the_removal(place, tmp_path, capsys):
    idx = str(tmp_path / "idx")
    shards = str(place / "shards" / "a-*.tar")
    assert main(["index", "build", str(place / "pairs"), shards, "--out", idx, "--backend", "hnsw", *trust]) == 0
    out = capsys.readouterr().out
    assert f"{idx}: hnsw of 17 image rows" in out
    assert "effort for image: efSearch 100, best 3 re-scored exactly" in out
    assert re.search(r"text +image +\d+ +\d\.\d{3} ", out)
    assert re.search(r"image +text +\d+ +\d\.\d{3} ", out)
    assert "all 17 image rows find themselves" in out

    ask = ["search", idx, "a red cone", "--of", "image", "--k", "3", *trust]
    assert main(ask) == 0
    assert "approximate (hnsw), best 3 re-scored exactly" in capsys.readouterr().out
    for name in ("exact", "dense", "inverted"):
        assert main([*ask, "--backend", name]) == 0
        assert "approximate" not in capsys.readouterr().out

    assert main(["index", "show", idx]) == 0
    assert re.search(
        r"approximate search: hnsw\n(?:  .+\n)*  17 image: recall@10 \d\.\d{3} by", capsys.readouterr().out
    )
    assert main(["index", "check", idx]) == 0
    capsys.readouterr()

    assert main(["index", "backend", idx, "binary", "--effort", "2"]) == 0
    assert "best 6 re-scored exactly" in capsys.readouterr().out
    assert main(["index", "add", idx, str(place / "more" / "a-*.tar"), *trust]) == 0
    stale = f"the binary of image is stale; make it again: align index backend {idx} binary"
    assert stale in capsys.readouterr().err
    assert main(ask) == 0
    assert "approximate" not in capsys.readouterr().out

    assert main(["index", "backend", idx, "int8"]) == 0
    key = re.search(r"key'?\W+(\S+)", "key " + next(iter(tiny_space.world())))[1]
    assert main(["index", "delete", idx, key]) == 0
    assert "the int8 of image is stale" in capsys.readouterr().err
    assert main(["index", "backend", idx, "int8"]) == 0
    assert main(["index", "compact", idx]) == 0
    assert "the int8 of image is stale" in capsys.readouterr().err

    assert main(["index", "backend", idx, "int8"]) == 0
    capsys.readouterr()
    assert main(["index", "backend", idx, "exact"]) == 0
    assert capsys.readouterr().out == f"{idx}: the int8 is removed, searches are exact\n"
    assert main(["index", "backend", idx, "exact"]) == 0
    assert "there was no approximate search" in capsys.readouterr().out

    assert main(["index", "backend", idx, "ivfpq"]) == 1
    assert "ivfpq needs 256 rows" in capsys.readouterr().err
    assert main(["index", "backend", idx, "hnsw"]) == 0
    path = next((tmp_path / "idx" / "ann").glob("*.faiss"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    capsys.readouterr()
    assert main(["index", "check", idx]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "line"),
    [
        (["hsnw"], 2, "no backend 'hsnw'; did you mean hnsw? there are hnsw, ivfpq, int8, binary"),
        (["hnsw", "--effort", "0"], 2, "--effort 0: it is a factor between 0 and 1000"),
        (["hnsw", "--effort", "-1"], 2, "--effort -1: it is a factor between 0 and 1000"),
        (["hnsw"], 1, "no index in"),
        (["milvus:http://127.0.0.1:1"], 1, "Milvus at http://127.0.0.1:1 does not answer: Connection refused"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, args, code, line):
    assert main(["index", "backend", str(tmp_path / "none"), *args]) == code
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_a_build_with_a_wrong_backend_ends_before_the_work(place, tmp_path, capsys):
    command = ["index", "build", str(place / "pairs"), str(place / "shards" / "a-*.tar"), "--out", str(tmp_path / "i")]
    assert main([*command, "--backend", "hsnw", *trust]) == 2
    assert "did you mean hnsw?" in capsys.readouterr().err
    assert main([*command, "--backend", "qdrant:http://127.0.0.1:1", *trust]) == 1
    assert "Qdrant at http://127.0.0.1:1 does not answer: Connection refused" in capsys.readouterr().err
    assert not (tmp_path / "i").exists()


def test_a_missing_extra_is_one_line(place, tmp_path, capsys, monkeypatch):
    from align.search.ann import local

    monkeypatch.setattr(local, "has_part", lambda module, part: False)
    command = ["index", "build", str(place / "pairs"), str(place / "shards" / "a-*.tar"), "--out", str(tmp_path / "i")]
    assert main([*command, "--backend", "hnsw", *trust]) == 1
    err = capsys.readouterr().err
    assert "approximate search needs faiss: pip install" in err
    assert "[search]" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "i").exists()


def stop(*args, **options):
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_done_is_said_when_it_is_stopped(place, tmp_path, capsys, monkeypatch):
    """A signal while the recall is measured comes after the search was made, and after the index was built."""
    idx, build = str(tmp_path / "idx"), ["index", "build", str(place / "pairs"), str(place / "shards" / "a-*.tar")]
    monkeypatch.setattr(index_backend, "measure", stop)
    done = f"stopped by SIGTERM: {idx} is searched by hnsw, whose recall is not measured; the same command measures it"
    assert main([*build, "--out", idx, "--backend", "hnsw", *trust]) == 143
    assert done in capsys.readouterr().err
    assert main(["search", idx, "a red cone", "--of", "image", "--k", "3", *trust]) == 0
    assert "approximate (hnsw)" in capsys.readouterr().out
    assert main(["index", "backend", idx, "hnsw"]) == 143
    assert done in capsys.readouterr().err

    monkeypatch.setattr("align.search.ann.make.make_backend", stop)
    assert main(["index", "backend", idx, "int8"]) == 143
    assert f"stopped by SIGTERM: the searches of {idx} are as they were" in capsys.readouterr().err
    assert main(["search", idx, "a red cone", "--of", "image", "--k", "3", *trust]) == 0
    assert "approximate (hnsw)" in capsys.readouterr().out


def test_lost_samples_are_counted_and_named():
    from align.search.ann.measure import Selves

    line = index_backend.say_selves(Selves("image", 100, 50, [3, 4]), ["a", "b"])
    assert line == "of 50 of 100 image rows, those of 2 samples do not find themselves: a, b"
    assert index_backend.say_selves(Selves("image", 100, 100, []), []) == "all 100 image rows find themselves"
