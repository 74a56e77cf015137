"""``align embed``: its lines, exit codes and names, and its ends by a signal."""

import os
import signal

import pytest
import tiny_cache as tiny

from align.checkpoint import save
from align.commands import main
from align.commands.embed import find_beginning, name_set
from align.embedding.features import part
from align.files import read_json

trust = ["--allow", "tiny_cache"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards/train-*.tar and the model photos."""
    folder = tmp_path_factory.mktemp("embed")
    tiny.write_shards(folder / "shards")
    save(tiny.make_model(), folder / "photos")
    return folder


def run(capsys, place, *args, shards="train-*.tar", model="photos"):
    """(exit code, stdout, stderr) of `align embed`."""
    capsys.readouterr()
    code = main(["embed", str(place / model), str(place / "shards" / shards), *map(str, args), *trust])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_cache_and_a_second_set(place, tmp_path, capsys):
    out, settings = tmp_path / "c", ("--max-bad", "0.1", "--workers", "1")
    code, said, err = run(capsys, place, "--out", out, "--features", *settings)
    columns = f"{out / 'photos'}:image\n{out / 'photos'}:text\n"
    assert (code, said) == (0, columns)
    assert err == (
        f"bad members: 1 array/not-npy\nleft out: 1 sample/empty\nwrote 3 of 3 parts, 26 samples to {out / 'photos'}\n"
    )
    code, said, err = run(capsys, place, "--out", out, "--features", *settings)
    assert (code, said) == (0, columns)
    assert err.endswith(f"{out / 'photos'} is there already (3 parts, 26 samples); nothing to do\n")
    code, _, err = run(capsys, place, "--out", out, "--max-bad", "0.1")
    assert code == 1
    assert err.startswith(f"align: {out} has the set 'photos' with image.kind features, not embedding, text.kind ")
    args = ("--out", out, "--name", "words", "--towers", "text", "--tokens", "--dtype", "float32")
    assert run(capsys, place, *args)[0] == 0
    sets = read_json(out / "cache.json")["sets"]
    assert sets["photos"]["model"] == sets["words"]["model"] == str(place / "photos")
    column = sets["words"]["columns"]["text"]
    assert (column["kind"], column["tokens"], column["dtype"]) == ("embedding", True, "float32")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--towers", "imagge"], 1, "the model has no tower 'imagge'; did you mean image?"),
        (
            ["--towers", "image", "--tokens", "--features"],
            1,
            "gives pooled features only, no tokens; leave --tokens out",
        ),
        (["--batch", "100"], 1, "a batch of 100 does not divide a block of 1024 positions; take 128"),
        (["--towers", ","], 2, "--towers names none; write --towers image,text"),
        (["--max-bad", "2"], 2, "a share is 0 to 1"),
        (["--dtype", "float8"], 2, "--dtype"),
        (["--ray", "auto"], 2, "--ray and --dashboard are for --executor ray"),
        (["--name", "a b"], 1, "'a b' is no name of a set"),
    ],
)
def test_one_line_where_something_does_not_fit(place, tmp_path, capsys, args, code, message):
    found, _, err = run(capsys, place, "--out", tmp_path / "c", *args)
    assert found == code
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.tar"))


def test_no_shards_no_out_and_too_many_bad(place, tmp_path, capsys, monkeypatch):
    code, _, err = run(capsys, place, "--out", tmp_path / "c", shards="test-*.tar")
    assert (code, err) == (1, f"align: no shard matches {place}/shards/test-*.tar\n")
    assert run(capsys, place)[0] == 2
    monkeypatch.setattr(tiny, "npy", lambda i, name: b"bad")
    tiny.write_shards(tmp_path / "bad", 4)
    code, _, err = run(capsys, place, "--out", tmp_path / "c", shards=tmp_path / "bad" / "*.tar")
    assert code == 3
    assert "4 of 4 samples in all are bad" in err
    assert "--max-bad 0.1, or 1 for any number" in err
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, place, "--out", tmp_path / "file")
    assert (code, err.count("\n")) == (1, 1)


def test_ray_that_is_not_installed(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("align.extras.has_part", lambda module, name: False)
    code, _, err = run(capsys, place, "--out", tmp_path / "c", "--executor", "ray")
    assert code == 1
    assert "--executor ray needs Ray: pip install" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_same_command_goes_on(place, tmp_path, capsys, monkeypatch, number, code):
    encode, calls = part.encode, []

    def stop(*args):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return encode(*args)

    with monkeypatch.context() as patch:
        patch.setattr(part, "encode", stop)
        found, _, err = run(capsys, place, "--out", tmp_path / "c", "--max-bad", "0.1")
    assert found == code
    assert err == (
        f"align: stopped by {number.name}: 1 part of the set 'photos' is kept, and the same command goes on from it\n"
    )
    assert sorted(p.name for p in (tmp_path / "c" / "photos").iterdir()) == ["train-000000.json", "train-000000.tar"]
    found, _, err = run(capsys, place, "--out", tmp_path / "c", "--max-bad", "0.1")
    assert found == 0
    assert "wrote 2 of 3 parts" in err


def test_names_of_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    assert name_set("runs/photos/checkpoints/step-00000100") == "photos"
    assert name_set("runs/photos/model") == "photos"
    assert name_set("minilm") == "minilm"
    assert name_set("owner/all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"
    assert name_set("open_clip:ViT-B-32/laion2b_s34b_b79k") == "ViT-B-32-laion2b_s34b_b79k"
    assert name_set("hf-text:minilm") == "minilm"
    assert name_set(f"hf-text:local-dir:{tmp_path}/minilm") == "minilm"


def test_where_a_process_begins():
    assert find_beginning({"RANK": "3", "WORLD_SIZE": "4"}) == 0.75
    slurm = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert find_beginning(slurm) == 0.5
    assert find_beginning({"RANK": "3"}) == find_beginning({"SLURM_ARRAY_TASK_ID": "x"}) == find_beginning({}) == 0


def test_help_says_where_an_index_is_made(capsys):
    assert main(["embed", "--help"]) == 0
    assert "align index build makes an index for search." in " ".join(capsys.readouterr().out.split())
