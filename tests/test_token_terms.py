"""Losses over tokens as terms: from the config that their docstrings show, through a run, and on two gloo ranks."""

from __future__ import annotations

import inspect
import io
import textwrap
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
import yaml
from ranks import on_ranks

import align
from align import Batch, JointModel, Objective, Rows, Term, Tower
from align.commands import main
from align.commands.config import make_parser
from align.data import ShardWriter
from align.distributed import rank, world
from align.encoders import Precomputed, TransformerText
from align.losses import InfoNCE, LateInteraction, Transport, late_interaction
from align.objective.everyone import everyone
from align.preprocess import Array, Bytes
from align.scoring import choose, score
from align.values import TermInfo

dim, context = 8, 6


def model(seed: int = 0) -> JointModel:
    """Images and sounds are three and two vectors, a text is letters."""
    torch.manual_seed(seed)
    text = TransformerText(context=context, width=16, depth=1, heads=2)
    towers = {
        "audio": Tower(Array((2, 6)), Precomputed(6)),
        "image": Tower(Array((3, 6)), Precomputed(6)),
        "text": Tower(Bytes(context=context), text),
    }
    return JointModel(towers, dim).double()


def objective(terms: dict[str, Term]) -> Objective:
    return Objective(terms, dim=dim, batch=7, modalities=["audio", "image", "text"]).double()


owners = {"audio": [1, 1, 3, 5], "image": [0, 1, 2, 4, 6], "text": [0, 0, 1, 2, 2, 3, 5, 6, 6]}


def batch(part: int = 0, parts: int = 1) -> Batch:
    """Every parts-th sample of seven; with two ranks, the first has no sound. Rows of text differ in length."""
    draw = torch.Generator().manual_seed(7)
    rows = {}
    for modality, owner in owners.items():
        n, of = len(owner), torch.tensor(owner)
        if modality == "text":
            values = torch.randint(3, 259, (n, context), generator=draw)
            values = values.where(torch.arange(context) < torch.randint(1, context, (n, 1), generator=draw), 0)
        else:
            L = {"audio": 2, "image": 3}[modality]
            values = torch.randn(n, L, 6, dtype=torch.float64, generator=draw)
        mine = of % parts == part
        rows[modality] = Rows(values[mine], of[mine] // parts)
    samples = torch.arange(part, 7, parts)
    rows = {m: r for m, r in rows.items() if r.n}
    group, weight = torch.tensor([-1, 2, -1, 2, -1, 1, -1]), torch.tensor([1.0, 0.5, 1.0, 2.0, 1.0, 0.25, 1.0])
    made = Batch(rows, [str(int(s)) for s in samples], samples)
    made.group, made.weight = group[samples], weight[samples]
    return made


def all_terms() -> dict[str, Term]:
    return {
        "pooled": Term(InfoNCE(), ["image", "text"]),
        "filip": Term(LateInteraction(chunk=5), [["image", "text"], ["audio", "text", 0.5]], weight=0.7),
        "carry": Term(Transport(chunk=4), ["audio", "image"]),
        "pull": Term(Transport("none"), ["image", "text"], weight=0.1),
    }


def outcome() -> dict[str, Any]:
    """Value, logged values and DDP's mean of the gradients on this rank; on one process simply its own."""
    made, terms = model(), objective(all_terms())
    loss, values = terms(made(batch(rank(), world()), tokens=terms.tokens))
    loss.backward()
    grads = {}
    for name, parameter in [*made.named_parameters(), *terms.named_parameters()]:
        assert parameter.grad is not None, name
        grads[name] = parameter.grad.clone()
        if world() > 1:
            dist.all_reduce(grads[name])
            grads[name] /= world()
    return {"loss": loss.detach(), "values": values, "grads": grads, "counts": terms.counts()}


def case_tokens() -> Any:
    assert ("audio" in batch(rank(), world())) == (rank() == 1)
    return outcome()


def case_trimmed() -> Any:
    """Rows of text are as long as the longest of their rank: two letters, and five."""
    embeddings = model()(batch(rank(), 2), tokens=["text"])
    rows, keep = embeddings["text"], 2 + 3 * rank()
    assert rows.tokens is not None
    assert rows.mask is not None
    mask = rows.mask & (torch.arange(context) < keep)
    embeddings.rows["text"] = rows._replace(tokens=rows.tokens, mask=mask)
    padded = everyone(embeddings, "text", tokens=True)
    embeddings.rows["text"] = rows._replace(tokens=rows.tokens[:, :keep], mask=mask[:, :keep])
    found = everyone(embeddings, "text", tokens=True)
    tokens, short = cast("tuple[torch.Tensor, torch.Tensor]", (found.tokens, found.mask))
    wanted, whole = cast("tuple[torch.Tensor, torch.Tensor]", (padded.tokens, padded.mask))
    tokens[short].sum().backward()
    return tokens.shape, tokens[short], short, wanted[whole], whole


def test_two_ranks_are_one_process(tmp_path):
    alone = outcome()
    assert all(grad.abs().max() > 0 for name, grad in alone["grads"].items() if "losses.pull" not in name)
    ranks = on_ranks([case_tokens, case_trimmed], tmp_path)
    for shape, tokens, mask, wanted, all_of_it in ranks["case_trimmed"]:
        assert tuple(shape) == (9, 5, dim)
        assert torch.equal(tokens, wanted)
        assert torch.equal(mask, all_of_it[:, :5])
        assert not all_of_it[:, 5:].any()
    for result in ranks["case_tokens"]:
        torch.testing.assert_close(result["loss"], alone["loss"], rtol=1e-12, atol=0)
        torch.testing.assert_close(result["values"], alone["values"], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(result["grads"], alone["grads"], rtol=1e-12, atol=1e-12)
        assert result["counts"] == alone["counts"] == dict.fromkeys(all_terms(), 0)


def test_the_objective_says_whose_tokens_it_reads():
    assert objective(all_terms()).tokens == ["audio", "image", "text"]
    assert objective({"one": Term(LateInteraction(), ["text", "image"])}).tokens == ["image", "text"]
    assert objective({"one": Term(InfoNCE(), "all")}).tokens == []


def test_a_term_is_the_function_of_the_rows_in_order():
    made = model()
    terms = objective({"filip": Term(LateInteraction(start_scale=5.0), ["image", "text"])})
    embeddings = made(batch(), tokens=terms.tokens)
    loss, logged = terms(embeddings)
    image, text = (everyone(embeddings, m, tokens=True) for m in ("image", "text"))
    assert text.mask is not None
    assert (text.mask.sum(1) < context).any()
    expected = late_interaction(
        image.tokens,
        text.tokens,
        terms.losses["filip"].scale,
        mask_b=text.mask,
        sample_a=image.sample,
        sample_b=text.sample,
        group_a=image.group,
        group_b=text.group,
        weight_a=image.weight,
        weight_b=text.weight,
    )
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)
    assert logged["filip/scale"].item() == pytest.approx(5)
    assert everyone(embeddings, "image").tokens is None


def test_tokens_that_nobody_asked_for_are_missed():
    terms = objective({"filip": Term(LateInteraction(), ["image", "text"])})
    with pytest.raises(ValueError, match=r"reads the tokens of image; call model\(batch, tokens=objective.tokens\)"):
        terms(model()(batch()))


@pytest.mark.parametrize("loss", [LateInteraction(), Transport(epsilon=0.2)])
def test_it_learns_which_parts_a_text_names(loss):
    """A picture is three of ten things side by side, its text three letters in another order."""
    draw = torch.Generator().manual_seed(0)
    things = torch.randn(10, 6, generator=draw)
    chosen = torch.combinations(torch.arange(10), 3)[torch.randperm(120, generator=draw)[:48]]  # no two are the same
    text = F.pad(chosen[:, [2, 0, 1]] + 10, (0, context - 3))
    samples = torch.arange(48)
    rows = {"image": Rows(things[chosen], samples), "text": Rows(text, samples)}
    made = model().float()
    terms = Objective({"parts": Term(loss, ["image", "text"])}, dim=dim, batch=48)
    optimizer = torch.optim.Adam([*made.parameters(), *terms.parameters()], lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        value, _ = terms(made(Batch(rows, [""] * 48, samples), tokens=terms.tokens))
        value.backward()
        optimizer.step()
        terms.clamp_()
        losses.append(value.item())
    assert losses[0] > 3.9  # ln 48 is 3.87
    assert losses[-1] < 1.6


def shown(loss: type) -> str:
    """The config in a class's docstring: from ``objective:`` to the next empty line."""
    text = inspect.getdoc(loss) or ""
    start = text.index("objective:\n")
    return textwrap.dedent(text[start : text.index("\n\n", start)])


def config(loss: type, train: str = "train-*.tar", size: tuple[int, ...] = (3, 6)) -> dict[str, Any]:
    image = {
        "preprocess": {"class_path": "align.preprocess.Array", "init_args": {"shape": [*size]}},
        "encoder": {"class_path": "align.encoders.Precomputed", "init_args": {"width": 6}},
    }
    text = {
        "preprocess": {"class_path": "align.preprocess.Bytes", "init_args": {"context": 8}},
        "encoder": {
            "class_path": "align.encoders.TransformerText",
            "init_args": {"context": 8, "width": 8, "heads": 2},
        },
    }
    return {
        "model": {"dim": 4, "towers": {"image": image, "text": text}},
        "data": {"train": train, "val": train, "batch": 8, "workers": 0},
        "trainer": {"accelerator": "cpu", "logger": False, "max_steps": 3},
        **yaml.safe_load(shown(loss)),
    }


@pytest.mark.parametrize("loss", [LateInteraction, Transport])
def test_the_config_in_the_docstring_builds(loss, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config(loss)))
    parser = make_parser()
    made = parser.instantiate(parser.parse_args(["--config", str(tmp_path / "config.yaml"), "--run", "runs/x"]))
    assert [info.kind for info in made.objective.infos()] == ["pairwise", "tokens"]
    assert isinstance([*made.objective.losses.values()][1], loss)
    assert made.objective.tokens == ["image", "text"]


def write(folder: Path, size: tuple[int, ...] = (3, 6)) -> None:
    draw = np.random.default_rng(0)
    with ShardWriter(folder, "train") as writer:
        for i in range(16):
            file = io.BytesIO()
            np.save(file, draw.normal(size=size).astype(np.float32))
            members = {"image.npy": file.getvalue(), "text.txt": f"thing {i}".encode()}
            writer.write(f"{i:04d}", {k: v for k, v in members.items() if i % 5 or k == "text.txt"})


def test_a_run_trains_it_and_its_model_comes_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config(LateInteraction)))
    assert main(["train", "--config", "config.yaml", "--run", "run"]) == 0
    header, *_ = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert {"tokens", "tokens/scale", "val/loss", "val/image_to_text/recall@1"} <= set(header.split(","))
    loaded = align.load("run")
    assert [(term.kind, term.modalities) for term in loaded.terms] == [
        ("pairwise", ("image", "text")),
        ("tokens", ("image", "text")),
    ]
    assert main(["train", "--config", "config.yaml", "--run", "run", "--trainer.max_steps", "5"]) == 0
    assert "continuing at step 3" in capsys.readouterr().err
    image, text = torch.randn(2, 4), torch.randn(3, 4)
    got = score({"image": image}, text, "objective", of="text", terms=loaded.terms)
    torch.testing.assert_close(got, loaded.terms[0].scale * image @ text.T)  # the token term scores no embeddings


def test_an_encoder_without_tokens_is_named_on_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, size=(6,))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config(Transport, size=(6,))))
    assert main(["train", "--config", "config.yaml", "--run", "run"]) == 1
    *said, line = capsys.readouterr().err.strip().splitlines()
    assert all(text.startswith("equal captions: ") for text in said)
    assert line.startswith("align: tower 'image': tokens were asked for, but Precomputed gives pooled features only; ")


def test_terms_over_tokens_score_no_embeddings():
    terms = [TermInfo(("image", "text"), "tokens", 10.0)]
    with pytest.raises(ValueError, match=r"no trained term scores text by image alone; the terms are: none"):
        score({"image": torch.ones(1, 4)}, torch.ones(2, 4), "objective", of="text", terms=terms)
    assert choose(terms, ["image"], "text") == "cosine"
