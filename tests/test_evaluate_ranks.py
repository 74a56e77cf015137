"""Evaluation by two processes: the results of one process to the bit, one budget, and one end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny_space
import torch
from ranks import on_ranks

from align.checkpoint import save
from align.commands.ranks import find_ranks
from align.data import Shards
from align.data.bad import Bad, TooManyBad
from align.distributed import FailedElsewhere, agree, give_up, rank
from align.embedding import embed_shards
from align.embedding.sharing import pack, unpack
from align.evaluation import Robustness, Space, evaluate, write_results
from align.model import JointModel, Tower
from align.preprocess import Bytes, Image
from align.values import Embeddings, Rows


def folder_of_this_rank() -> Path:
    """Shards under equal relative paths on every rank: 24 samples, two of them bad, and 7 for training."""
    folder = Path(tempfile.mkdtemp())
    samples = tiny_space.world(group=True)
    samples["0009"]["image.npy"] = b"no array"
    samples["0011"] = {"image.npy": b"no array", "json": b"{}"}
    tiny_space.write_tar(folder / "test-000000.tar", samples)
    tiny_space.write_tar(folder / "train-000000.tar", dict(list(tiny_space.world(seed=1).items())[:7]))
    os.chdir(folder)
    return folder


def minus(x, draws):
    return -x + torch.randn(x.shape, generator=draws)


def same_results():
    """results.json and samples.safetensors of a shared evaluation, and of one by this process alone."""
    folder_of_this_rank()
    found = []
    for name, together in (("shared", True), ("alone", False)):
        test, train = (Shards(f"{kind}-*.tar", shuffle=False, max_bad=1) for kind in ("test", "train"))
        results = evaluate(
            tiny_space.model("pairwise", "symile"),
            test,
            batch=5,
            workers=1 if together else 0,
            with_=["zeroshot", "retrieval", Robustness(strengths=[2, 4])],
            train=train,
            draws=20,
            together=together,
        )
        write_results(results, name)
        found.append([Path(name, file).read_bytes().hex() for file in ("results.json", "samples.safetensors")])
        found[-1].append(json.dumps(test.report()))
    return found


def same_tables():
    """Every kind of table, also of the training split and of an altered space."""
    folder_of_this_rank()
    found = []
    for together in (True, False):
        test, train = (Shards(f"{kind}-*.tar", shuffle=False, max_bad=1) for kind in ("test", "train"))
        space = Space(tiny_space.model(), test, train=train, batch=5, together=together)
        spaces = (space, space.altered({"image": minus}), space.altered({"image": minus, "text": lambda x, _: x[:4]}))
        tables = [
            one.table(of, split) for one in spaces for of in ("embedding", "features") for split in ("test", "train")
        ]
        found.append([[x for rows in table.values() for x in (rows.values, rows.sample)] for table in tables])
        found[-1].append([torch.tensor(space.bad["test"].total())])
    shared, alone = found
    return all(
        torch.equal(a, b) for some, other in zip(shared, alone, strict=True) for a, b in zip(some, other, strict=True)
    )


def batches_of_each():
    """The sizes of the batches that this rank embeds, and what it is told of the progress."""
    folder_of_this_rank()
    model, sizes, told = tiny_space.model(), [], []

    def make(model, rows):
        sizes.append(rows.size)
        return model(rows)

    shards = Shards("test-*.tar", shuffle=False, max_bad=1)
    embed_shards(model, shards, 5, make=make, together=True, progress=lambda done, total: told.append(done))
    return [sizes, told]


def one_budget():
    """Both ranks stop at the same batch, with the words of a single process."""
    folder_of_this_rank()
    tiny_space.write_tar(
        Path("worse.tar"), {f"{i:04d}": {"image.npy": b"no"} if i % 2 else {"text.txt": b"b"} for i in range(60)}
    )
    said = []
    for together in (True, False):
        shards = Shards("worse.tar", shuffle=False, max_bad=0.01)
        try:
            embed_shards(tiny_space.model(), shards, 5, together=together)
        except TooManyBad as error:
            said += [str(error), json.dumps(error.counts), json.dumps(shards.report())]
    return said


def a_failure():
    """Rank 1 gives up where rank 0 waits."""
    if rank() == 1:
        give_up("the disk is full", 3)
        return "gave up"
    try:
        agree(b"rank 0")
    except FailedElsewhere as error:
        return f"{error.line} {error.code}"


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    cases = [same_results, same_tables, batches_of_each, one_budget, a_failure]
    return on_ranks(cases, tmp_path_factory.mktemp("ranks"))


def test_results_are_those_of_one_process_to_the_bit(two_ranks):
    for shared, alone in two_ranks["same_results"]:
        assert shared == alone
    results = json.loads(bytes.fromhex(two_ranks["same_results"][0][0][0]))
    assert results["protocol"]["bad"] == {"array/not-npy": 2, "sample/empty": 1}
    assert "robustness/text/typos@4/to_image/recall@1" in results


def test_tables_are_those_of_one_process_to_the_bit(two_ranks):
    assert two_ranks["same_tables"] == [True, True]


def test_the_batches_go_round_the_ranks(two_ranks):
    (first, told), (second, _) = two_ranks["batches_of_each"]
    assert (first, second) == ([5, 5, 4], [5, 5])
    assert told == [5, 10, 15, 20, 24]


def test_both_ranks_stop_for_the_budget_of_one_process(two_ranks):
    for said in two_ranks["one_budget"]:
        assert len(said) == 6
        assert said[:3] == said[3:]


def test_a_failure_is_heard(two_ranks):
    assert two_ranks["a_failure"] == ["the disk is full 3", "gave up"]


def test_a_table_survives_its_way_to_the_bit():
    values = torch.tensor([[1.0, -0.0], [float("inf"), 1e-45]])
    rows = Rows(values, torch.tensor([1, -1]), values[:, None].bfloat16(), torch.ones(2, 1, dtype=torch.bool))
    table = Embeddings(
        {"a": rows, "b/c": Rows(values[:0].half(), torch.zeros(0).long(), content=torch.zeros(0).long())},
        ["k", "", "\udcff"],
        torch.tensor([7, 8, 9]),
        [{"x": [1, "é"]}, None, 3],
        ["s", "", ""],
        weight=torch.tensor([1.0, 0.1, 2.0]),
    )
    bad = [Bad("image/format", "s.tar", "k", "image.png", 7)]
    got, news = unpack(pack(table, bad))
    assert news == bad
    assert (got.ids, got.labels, got.source) == (table.ids, table.labels, table.source)
    assert got.group is None
    assert torch.equal(got.weight, table.weight)
    assert list(got) == ["a", "b/c"]
    for m, rows in table.items():
        for one, other in zip(rows, got[m], strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert one.dtype == other.dtype
                assert one.shape == other.shape
                assert one.contiguous().view(torch.uint8).equal(other.contiguous().view(torch.uint8)) or not one.numel()


def test_launchers_are_found():
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    assert find_ranks(torchrun) == (1, 2)
    assert find_ranks({}) is find_ranks({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None  # sbatch without srun
    assert find_ranks({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}) == (3, 4)
    with pytest.raises(Exception, match="start the processes with torchrun"):
        find_ranks({"RANK": "1", "WORLD_SIZE": "2"})


def launch(arguments: list[str], folder: Path, *, slurm: bool = False) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each of two processes that run ``align``, started as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for r in range(2):
        ranks = {"RANK": str(r), "WORLD_SIZE": "2", "LOCAL_RANK": str(r)}
        if slurm:
            ranks = {"SLURM_PROCID": str(r), "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": str(r), "SLURM_JOB_ID": "7"}
            ranks |= {"SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "x"}
        ranks |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "align", *arguments]
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | ranks, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
    found = []
    for process in running:
        try:
            out, err = process.communicate(timeout=240)
        finally:
            process.send_signal(signal.SIGKILL)
        found.append((process.returncode, out, err))
    return found


@pytest.fixture
def world_of_pictures(tmp_path):
    """A model folder, and shards of pictures and texts beside it."""
    from io import BytesIO

    from PIL import Image as Pil

    from align.encoders import ImageCNN, TransformerText

    text = Tower(Bytes(context=24), TransformerText(context=24, width=16, depth=1, heads=2))
    torch.manual_seed(0)
    save(
        JointModel({"image": Tower(Image(16), ImageCNN(8, widths=[8, 8])), "text": text}, 8).eval(), tmp_path / "model"
    )
    samples = tiny_space.world()
    for i, members in enumerate(samples.values()):
        for name in ("image.npy", "audio.npy"):
            members.pop(name, None)
        file = BytesIO()
        Pil.effect_noise((16, 16), 4.0 * i).save(file, "PNG")
        members["image.png"] = file.getvalue()
    tiny_space.write_tar(tmp_path / "test.tar", samples)
    samples["0000"]["image.png"] = samples["0001"]["image.png"] = samples["0008"]["image.png"] = b"no picture"
    tiny_space.write_tar(tmp_path / "bad.tar", samples)
    return tmp_path


@pytest.mark.sweep
@pytest.mark.parametrize("slurm", [False, True])
def test_the_command_by_two_processes(world_of_pictures, slurm):
    """The first writes and prints, the second is silent, and the files are those of one process."""
    folder = world_of_pictures
    command = ["evaluate", "model", "test.tar", "--out", "out", "--batch", "5", "--workers", "1", "--draws", "50"]
    command += ["--with", "zeroshot,retrieval,robustness", "--strengths", "1,4", "--members", "image=image.png"]
    names = ("results.json", "samples.safetensors", "report.html")
    (code, out, err), (other, *silent) = launch(command, folder, slurm=slurm)
    assert (code, other) == (0, 0), err
    assert "wrote out/results.json" in err
    assert "robustness" in out
    assert silent == ["", ""]
    shared = [(folder / "out" / name).read_bytes() for name in names]
    alone = subprocess.run([sys.executable, "-m", "align", *command], cwd=folder, capture_output=True, text=True)
    assert (alone.returncode, alone.stdout) == (0, out)
    assert shared == [(folder / "out" / name).read_bytes() for name in names]


@pytest.mark.sweep
def test_the_command_ends_alike_on_both(world_of_pictures):
    """Too many bad samples (3), a folder that cannot be written by the first rank (1), a setting (2)."""
    folder = world_of_pictures
    (folder / "file").write_text("")
    cases = [
        (["bad.tar", "--out", "out", "--batch", "5"], 3, "allow a larger share: --max-bad"),
        (["test.tar", "--out", "file/out"], 1, "file"),
        (["test.tar", "--out", "out", "--with", "nothing"], 2, "no evaluator 'nothing'"),
        (["none.tar", "--out", "out"], 1, "none.tar"),
    ]
    for arguments, wanted, words in cases:
        (code, _, err), (other, out, silent) = launch(["evaluate", "model", *arguments], folder)
        assert (code, other) == (wanted, wanted), (arguments, err, silent)
        assert words in err
        assert (out, silent) == ("", "")
        alone = subprocess.run(
            [sys.executable, "-m", "align", "evaluate", "model", *arguments], cwd=folder, capture_output=True, text=True
        )
        assert (alone.returncode, alone.stderr) == (wanted, err)
