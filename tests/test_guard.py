"""The guard of a run: a step that is not finite changes nothing, and heartbeats tell how a rank ends."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from cut import Cut, Kill
from test_lit import exact, rows, train
from tiny import made, write
from torch import nn

from align import Objective, Term
from align.checkpoint import read_index
from align.commands.errors import explain
from align.lit import AlignModule, Checkpoints
from align.lit.finite import Finite, Skip, describe
from align.lit.guard import Guard
from align.lit.heartbeat import Heartbeats, Verdict
from align.lit.peers import _accept, connect
from align.lit.skipped import TooManySkipped
from align.lit.watch import end_observers
from align.losses import InfoNCE, MemoryQueue
from align.optim import AdamW, Ema, Joined, Optim
from align.values import Batch, Rows


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards"), missing=0)


class Poison(L.Callback):
    """Makes one row of a modality NaN in some steps (or a gradient infinite), and notes a digest after each step."""

    def __init__(self, *steps: int, modality: str = "audio", gradient: bool = False):
        self.steps, self.modality, self.gradient = steps, modality, gradient
        self.digests: dict[int, str] = {}
        self.keys: dict[int, str] = {}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AlignModule)
        self.digests[pl_module.step] = digest(trainer, pl_module)
        if pl_module.step + 1 not in self.steps:
            return
        if self.gradient:
            parameter = next(pl_module.model.towers["image"].head.parameters())

            def spoil(p: torch.Tensor) -> None:
                assert p.grad is not None
                p.grad.fill_(float("inf"))
                handle.remove()

            handle = parameter.register_post_accumulate_grad_hook(spoil)
        else:
            batch[self.modality].values[5, 2] = float("nan")
            self.keys[pl_module.step + 1] = batch.ids[int(batch[self.modality].sample[5])]

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AlignModule)
        self.digests[pl_module.step] = digest(trainer, pl_module)


def digest(trainer: L.Trainer, module: AlignModule) -> str:
    """SHA-256 of everything that a step may change: parameters, buffers, and the state of the optimiser."""
    optimizer = trainer.optimizers[0]
    tensors = [*module.state_dict().values(), *(x for each in optimizer.state.values() for x in each.values())]
    numbers = [v for group in optimizer.param_groups for k, v in group.items() if k not in ("params", "lr")]
    text = [x.detach().numpy().tobytes() if isinstance(x, torch.Tensor) else repr(x).encode() for x in tensors]
    return hashlib.sha256(b"".join(text) + repr([n for n in numbers if not callable(n)]).encode()).hexdigest()


def go(shards: Path, run: Path, *callbacks: L.Callback, steps: int = 5, **options: Any):
    trainer = {"callbacks": list(callbacks), **options.pop("trainer", {})}
    return train(shards, run, steps, **{"val": False, **options}, trainer=trainer)


def skipped(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]


def options_of(kind: str) -> dict[str, Any]:
    """Return the settings of a run by the name of the part of it that a skipped step must not touch."""
    if kind == "joined":
        return {"optim": Optim(lr=0.01, optimizer=lambda g: Joined(g, torch.optim.Muon, torch.optim.AdamW))}
    if kind == "schedule-free":
        import schedulefree

        return {"optim": Optim(lr=0.01, optimizer=schedulefree.AdamWScheduleFree)}
    if kind == "soap":
        import pytorch_optimizer

        return {"optim": Optim(lr=0.01, optimizer=pytorch_optimizer.SOAP)}
    if kind == "average":
        return {"optim": Optim(lr=0.01, ema=Ema())}
    if kind == "chunk":
        return {"optim": AdamW(lr=0.01), "chunk": 5}
    if kind == "scaler":
        return {"optim": Optim(lr=0.01, ema=Ema()), "trainer": {"precision": "16-mixed"}}
    return {"optim": AdamW(lr=0.01)}


sweep = pytest.mark.sweep


@pytest.mark.parametrize(
    ("kind", "gradient"),
    [
        ("adamw", False),
        ("schedule-free", False),
        ("adamw", True),
        pytest.param("joined", False, marks=sweep),
        pytest.param("soap", False, marks=sweep),
        pytest.param("schedule-free", True, marks=sweep),
        *(pytest.param(k, g, marks=sweep) for k in ("average", "chunk", "scaler") for g in (False, True)),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(shards, tmp_path, capsys, kind, gradient):
    poison = Poison(3, gradient=gradient)
    _, fitted = go(shards, tmp_path, poison, **options_of(kind))
    assert fitted.step == 5
    seen = poison.digests
    assert seen[2] == seen[3]  # bit for bit
    assert len({seen[step] for step in (0, 1, 2, 4, 5)}) == 5
    table = rows(tmp_path)
    assert [row["skipped"] for row in table] == ["", "", "1.0", "", ""]
    assert list(table[0])[-1] == "skipped"
    assert [int(row["step"]) for row in table] == [1, 2, 3, 4, 5]
    assert all(float(row["grad_norm"]) < 1e9 for row in table if not row["skipped"])
    (line,) = skipped(tmp_path)
    said = capsys.readouterr().err
    assert said.count("is skipped") == 1
    if gradient:
        assert (line["step"], line["modalities"], line["gradients"]) == (3, {}, ["image.head"])
        assert len(line["keys"]) == 12
        assert "step 3 is skipped: gradient of image.head; all keys are in" in said
    else:
        assert (line["step"], line["loss"]) == (3, "nan")
        assert line["modalities"] == {"audio": [poison.keys[3]]}
        assert "keys" not in line
        assert {"all", "all/audio-image", "all/audio-text"} <= {*line["values"]}
        assert "all/image-text" not in line["values"]
        assert f"step 3 is skipped: loss nan; audio of {poison.keys[3]}; all keys are in" in said


@pytest.mark.parametrize("kills", [(3,), pytest.param((3, 6), marks=sweep)])
def test_a_run_with_a_skipped_step_continues_to_the_bit(shards, tmp_path, kills):
    """Killed between two skipped steps in a row, and after them: the number in a row is in the checkpoint."""
    each = Checkpoints(every_steps=1, keep=9)
    go(shards, tmp_path / "one", Poison(3, 4), steps=7)
    for at in kills:
        with pytest.raises(Cut):
            go(shards, tmp_path / "two", Poison(3, 4), Kill(at), steps=7, checkpoint=each)
    go(shards, tmp_path / "two", Poison(3, 4), steps=7, checkpoint=each)
    assert exact(tmp_path / "two") == exact(tmp_path / "one")
    assert skipped(tmp_path / "two") == skipped(tmp_path / "one")
    states = [tmp_path / f"two/checkpoints/step-0000000{n}/training/state.json" for n in range(1, 8)]
    assert [json.loads(path.read_text()).get("skips") for path in states] == [None, None, 1, 2, None, None, None]
    assert [*rows(tmp_path / "two")[0]] == [*rows(tmp_path / "one")[0]]  # the columns


def test_a_signal_before_the_first_step_waits_for_its_end(shards, tmp_path):
    class Ask(L.Callback):
        def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
            signal.raise_signal(signal.SIGTERM)

    _, fitted = go(shards, tmp_path, Ask(), steps=3)
    assert (fitted.signal, fitted.step) == (signal.SIGTERM, 1)
    assert read_index(tmp_path)["last"] == "step-00000001"


def test_too_many_in_a_row_stop_the_run(shards, tmp_path):
    poison, guard = Poison(2, 4, 5, 6), Guard(skips=3)
    with pytest.raises(TooManySkipped) as stopped:
        go(shards, tmp_path, poison, steps=9, guard=guard, checkpoint=Checkpoints(every_steps=3))
    text, code = explain(stopped.value)
    assert code == 3
    assert text is not None
    first, *table = text.splitlines()
    assert first.startswith("3 steps in a row have a loss or a gradient that is not finite; weights and optimiser are")
    assert "those of step 3. Lower optim.lr" in first
    assert [line.split()[0] for line in table] == ["4", "5", "6"]
    assert all(f"audio of {poison.keys[step]}" in line for step, line in zip((4, 5, 6), table, strict=True))
    assert read_index(tmp_path)["last"] == "step-00000003"
    assert [row["skipped"] for row in rows(tmp_path)] == ["", "1.0", "", "1.0", "1.0", "1.0"]
    assert not (tmp_path / "model").exists()
    go(shards, tmp_path, steps=9)  # the samples are good now
    assert [row["skipped"] for row in rows(tmp_path)] == ["", "1.0", *[""] * 7]
    assert [line["step"] for line in skipped(tmp_path)] == [2]
    go(shards, tmp_path, steps=2, fresh=True)
    assert not (tmp_path / "skipped.jsonl").exists()


# the check alone


def module_of(model: nn.Module, scaler: Any = None) -> Any:
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), optimizers=[None])
    return SimpleNamespace(trainer=trainer, named_parameters=model.named_parameters)


def give_gradients(layer: nn.Module, *values: float) -> None:
    for p, value in zip(layer.parameters(), values, strict=True):
        p.grad = torch.full_like(p, value)


def batch_of(n: int) -> Batch:
    rows = {"image": Rows(torch.zeros(n, 2), torch.arange(n))}
    return Batch(rows, ids=[f"k{i}" for i in range(n)], position=torch.arange(n))


def test_a_norm_that_overflows_is_no_gradient_that_does():
    layer = nn.Linear(300, 300, dtype=torch.float16)
    check = Finite(layer, layer)
    check.begin(batch_of(2))
    give_gradients(layer, 300.0, 300.0)
    true = 300 * (300 * 301) ** 0.5
    assert true > torch.finfo(torch.float16).max
    norm = check.clip(module_of(layer), {"loss": torch.ones(())}, 1.0)
    assert float(norm) == pytest.approx(true, rel=1e-6)
    assert float(layer.weight.grad.double().norm()) == pytest.approx(1, rel=0.02)
    give_gradients(layer, 300.0, float("inf"))
    with pytest.raises(Skip):
        check.clip(module_of(layer), {"loss": torch.ones(())}, 1.0)
    assert check.found[0]["gradients"] == ["bias"]
    assert float(layer.weight.grad[0, 0]) == 300  # nothing was scaled by an infinite norm


def test_the_norm_and_the_clipped_gradients_are_torchs():
    one, two = nn.Linear(5, 3), nn.Linear(5, 3)
    for largest in (0.5, 1e9, float("inf")):
        for layer in (one, two):
            give_gradients(layer, 0.7, -1.3)
        norm = Finite(one, one).clip(module_of(one), {"loss": torch.ones(())}, largest)
        assert torch.equal(norm, nn.utils.clip_grad_norm_(two.parameters(), largest))
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_running_statistics_and_queues_come_back():
    model, layer = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), MemoryQueue(InfoNCE(), 8)
    objective = Objective({"t": Term(layer, ["a", "b"])}, dim=4, batch=4, modalities=["a", "b"])
    queue = next(part for part in objective.modules() if isinstance(part, MemoryQueue))
    x = torch.randn(4, 4)
    queue([x, x + 1], [torch.arange(4)] * 2)
    model(x)
    before = {k: v.clone() for k, v in [*model.state_dict().items(), *objective.state_dict().items()]}
    assert any(k.startswith("losses.t.rows/") for k in before)
    check = Finite(model, objective)
    check.begin(batch_of(4))
    model(x * 9)
    queue([x * 2, x], [torch.arange(4)] * 2)
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert any(v.shape != before[k].shape for k, v in objective.state_dict().items())
    check.undo(module_of(model).trainer)
    after = dict([*model.state_dict().items(), *objective.state_dict().items()])
    assert before.keys() == after.keys()
    assert all(torch.equal(v, before[k]) for k, v in after.items())


def test_the_scale_of_float16_is_lowered():
    """As Lightning's plugin steps: unscaled gradients are checked, and a skipped step halves the scale."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    check, module = Finite(layer, layer), module_of(layer, scaler)
    module.trainer.optimizers = [optimizer]
    scaled = scaler.scale(layer(torch.ones(1, 2)).sum())
    for bad in (True, False):
        scale = scaler.get_scale()
        optimizer.zero_grad()
        (scaler.scale(layer(torch.full((1, 2), float("inf") if bad else 1.0)).sum())).backward()
        check.begin(batch_of(1))
        if bad:
            with pytest.raises(Skip):
                check.clip(module, {"loss": torch.ones(())}, 1.0)
            check.undo(module.trainer)
            assert scaler.get_scale() == scale / 2
        else:
            assert float(check.clip(module, {"loss": torch.ones(())}, 100.0)) == pytest.approx(3**0.5)  # unscaled
            scaler.step(optimizer)
            scaler.update()
            assert scaler.get_scale() == scale
    assert scaled.isfinite()


def test_words_for_a_skipped_step():
    found = {"loss": "1.0", "grad_norm": "inf", "gradients": [], "modalities": {"image": ["a", "b", "c"]}}
    assert describe(found) == "image of a and 2 others"
    assert describe({**found, "modalities": {}}) == "gradient norm inf"


@pytest.mark.parametrize("wrong", [{"skips": 0}, {"seconds": 0}, {"restarts": -1}, {"data_seconds": -1.0}])
def test_bounds_that_no_run_could_keep(wrong):
    with pytest.raises(ValueError, match=r"guard.skips is at least 1, guard.seconds above 0, .* got"):
        Guard(**wrong)


# heartbeats


class Pair:
    """Rank 0 and another rank, with the verdicts that each comes to."""

    def __init__(self, seconds: float = 5.0):
        ours, theirs = socket.socketpair()
        self.verdicts: dict[int, Verdict] = {}
        self.first = Heartbeats(0, {1: ours}, seconds, lambda v: self.verdicts.update({0: v}))
        self.second = Heartbeats(1, {0: theirs}, seconds, lambda v: self.verdicts.update({1: v}))
        self.theirs = theirs

    def wait(self, *ranks: int) -> dict[int, Verdict]:
        end = time.monotonic() + 5
        while not {*ranks} <= self.verdicts.keys() and time.monotonic() < end:
            time.sleep(0.01)
        return self.verdicts

    def close(self) -> None:
        self.first.close()
        self.second.close()


def test_a_rank_that_says_goodbye_is_not_missed():
    pair = Pair(0.5)
    time.sleep(0.8)  # longer than its bound: they hear each other
    pair.second.close()
    time.sleep(0.8)
    pair.close()
    assert pair.verdicts == {}


def test_a_rank_that_fails_tells_its_reason():
    pair = Pair()
    pair.second.tell("OSError: no space")
    assert pair.wait(0) == {0: Verdict(1, "OSError: no space", True)}
    pair.close()


def test_a_closed_connection_is_the_end_of_a_rank():
    pair = Pair()
    pair.theirs.shutdown(socket.SHUT_RDWR)
    found = pair.wait(0, 1)
    assert (found[0].rank, found[1].rank) == (1, 0)
    assert "killed, or out of memory" in found[0].reason
    pair.close()


def test_a_silent_rank_is_named_to_the_others():
    """Three ranks: the second says nothing, and the third hears of it from the first."""
    (a, silent), (b, other) = socket.socketpair(), socket.socketpair()
    found: dict[int, Verdict] = {}
    first = Heartbeats(0, {1: a, 2: b}, 0.6, lambda v: found.update({0: v}))
    third = Heartbeats(2, {0: other}, 0.6, lambda v: found.update({2: v}))
    begin = time.monotonic()
    silent.sendall(b"\xff no JSON\n[1]\n{}\n")  # garbage is no end
    while len(found) < 2 and time.monotonic() < begin + 5:
        time.sleep(0.01)
    assert found[0] == found[2] == Verdict(1, "it is silent for 0.6 s: stopped, or its machine is gone", False)
    first.close()
    third.close()
    silent.close()


def together(*calls: Any) -> list[Any]:
    """Call each in a thread of its own, with an exchange between them."""
    barrier, said, out = threading.Barrier(len(calls)), [b""] * len(calls), [None] * len(calls)

    def run(rank: int) -> None:
        def exchange(content: bytes) -> list[bytes]:
            said[rank] = content
            barrier.wait(60)
            found = list(said)
            barrier.wait(60)
            return found

        out[rank] = calls[rank](rank, exchange)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    return out


def test_ranks_connect_and_strangers_do_not(monkeypatch):
    """The strangers come first: rank 0 no longer listens once rank 1 is there."""
    knocked = threading.Event()

    def stranger(rank: int, exchange: Any) -> None:
        exchange(b"here")
        address = json.loads(exchange(b"")[0])
        try:
            for text in (b"wrong 2\n", b"x" * 200, b""):
                with socket.create_connection((address["hosts"][0], address["port"])) as peer:
                    peer.sendall(text)
                    if not text:  # it resets the connection
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            knocked.set()
        exchange(b"")

    def first_rank(rank: int, exchange: Any) -> Any:
        return connect(rank, 2, exchange)

    def second_rank(rank: int, exchange: Any) -> Any:
        def after_the_strangers(content: bytes) -> list[bytes]:
            said = exchange(content)
            if not content:  # rank 0's address came
                knocked.wait(60)
            return said

        return connect(rank, 2, after_the_strangers)

    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    (first, why), (second, _), _ = together(first_rank, second_rank, stranger)
    assert why == ""
    first[1].sendall(b"x")
    assert second[0].recv(1) == b"x"
    for peer in (first[1], second[0]):
        peer.close()


def test_no_connection_stays_open_where_the_ranks_cannot_agree(monkeypatch):
    """Rank 0 has its peer when the exchange of reasons fails."""
    peer, other = socket.socketpair()
    monkeypatch.setattr("align.lit.peers._accept", lambda *given: {1: peer})
    calls = iter([[b"a", b"b"], [b'{"hosts": [], "port": 0, "token": ""}', b""]])

    def exchange(content: bytes) -> list[bytes]:
        try:
            return next(calls)
        except StopIteration:
            raise RuntimeError("a rank is gone") from None

    with pytest.raises(RuntimeError, match="a rank is gone"):
        connect(0, 2, exchange)
    assert peer.fileno() == -1
    other.close()


def test_no_connection_stays_open_where_a_rank_is_missing(monkeypatch):
    made = []

    def read(peer: socket.socket, token: str) -> int:
        made.append(peer)
        if len(made) > 1:
            raise OSError("no more files")
        return 1

    monkeypatch.setattr("align.lit.peers._read_rank", read)
    with socket.create_server(("127.0.0.1", 0)) as server:
        callers = [socket.create_connection(server.getsockname()) for _ in range(2)]
        with pytest.raises(OSError, match="no more files"):
            _accept(server, 4, "token")
    assert made[0].fileno() == -1
    for peer in (*callers, *made):
        peer.close()


def test_a_rank_that_cannot_connect_leaves_all_unwatched(monkeypatch):
    monkeypatch.setattr("align.lit.peers._dial", lambda *given: (_ for _ in ()).throw(OSError("no route")))
    monkeypatch.setattr("align.lit.peers._accept", lambda *given: {})
    found = together(*[lambda rank, exchange: connect(rank, 2, exchange)] * 2)
    assert found == [({}, "rank 1 cannot reach rank 0 at 127.0.0.1: no route")] * 2


@pytest.mark.parametrize("relieved", [True, False])
def test_lightning_does_not_kill_a_rank_that_leaves_by_itself(relieved):
    """Its thread kills the launcher where a rank has an exit code. The second case is Lightning as it is."""
    from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

    killed = []
    rank: Any = SimpleNamespace(pid=0, returncode=143, poll=lambda: 143, send_signal=lambda number: None)
    observer = _ChildProcessObserver(0, [rank], sleep_period=0.3)  # pyright: ignore[reportArgumentType]
    observer._terminate_all = lambda: killed.append(True)
    observer.start()
    if relieved:
        end_observers()
    observer.join(30)
    assert not observer.is_alive()
    assert killed == ([] if relieved else [True])


def test_made_models_have_the_names_of_parts():
    """The names in a line are towers' parts, not paths of modules."""
    model, objective = made()
    module = AlignModule(model, objective)
    from align.lit.finite import _name_part

    names = {_name_part(name) for name, _ in module.named_parameters()}
    assert {"image.encoder", "image.head", "text.encoder", "objective.all"} <= names


def test_an_overflow_of_float16s_scale_does_not_count():
    """Halving a scale above 1 is no failure of the run. A loss of NaN is one, and so is an overflow at scale 1."""
    from align.lit.skipped import _is_overflow

    def found(loss="1.0", modalities=None):
        return [{"loss": loss, "modalities": modalities or {}}]

    def trainer(scale):
        scaler = None if scale is None else SimpleNamespace(get_scale=lambda: scale)
        return SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler))

    assert _is_overflow(trainer(32768.0), found())
    assert not _is_overflow(trainer(1.0), found())
    assert not _is_overflow(trainer(32768.0), found("nan"))
    assert not _is_overflow(trainer(32768.0), found(modalities={"image": ["a"]}))
    assert not _is_overflow(trainer(None), found())
