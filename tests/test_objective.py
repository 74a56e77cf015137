"""The objective against loops over the pairs that exist, from YAML, and on two gloo ranks against one process."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import jsonargparse
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
import yaml
from ranks import on_ranks
from test_infonce import loop as infonce_loop
from torch import Tensor, nn

from align.distributed import rank, world
from align.losses import Bank, InfoNCE, SigLIP, Symile, VICReg, Window, infonce, symile
from align.objective import Objective, Term
from align.values import Embeddings, Rows, TermInfo

dim, width = 4, 6
# modality -> the sample that owns each row, and whether the row is one of its hard negatives
owners = {
    "audio": ([1, 1, 3, 5], [False] * 4),  # on odd samples only: with two ranks, only the second has any
    "image": ([0, 1, 2, 4, 6], [False] * 5),
    "text": ([0, 0, 1, 2, 2, 3, 5, 6, 6], [False, True, False, False, False, False, False, False, True]),
}
parts = {"audio": [2, 0, 0, -1], "text": [0, -1, 2, 0, 1, 0, -1, 0, -1]}  # of their rows; an image is of the whole
groups = torch.tensor([-1, 2, -1, 2, -1, 1, -1])  # on odd samples only
weights = torch.tensor([1.0, 0.5, 1.0, 2.0, 1.0, 0.25, 1.0])


def batch(part: int = 0, parts: int = 1, extras: bool = True) -> tuple[dict[str, Tensor], Embeddings]:
    """Inputs and an empty frame of one rank's share of seven samples: every parts-th sample from part on."""
    draw = torch.Generator().manual_seed(7)
    inputs, rows = {}, {}
    for modality, (owner, negative) in owners.items():
        values = torch.randn(len(owner), width, dtype=torch.float64, generator=draw)
        owner, negative = torch.tensor(owner), torch.tensor(negative)
        mine = owner % parts == part
        inputs[modality] = values[mine]
        rows[modality] = Rows(values[mine], torch.where(negative, -1, owner // parts)[mine])
    samples = torch.arange(part, 7, parts)
    odd = extras and bool((samples % 2 == 1).any())  # a rank without groups has None
    frame = Embeddings(rows, [str(int(s)) for s in samples], samples)
    frame.group = groups[samples] if odd else None
    frame.weight = weights[samples] if odd else None
    return inputs, frame


class Model(nn.Module):
    """A linear tower a modality, and an objective."""

    def __init__(self, objective: Objective, normalize: bool = True):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.towers = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(width, dim, dtype=torch.float64, generator=draw)) for m in owners}
        )
        self.objective = objective.double()

    def forward(self, inputs: dict[str, Tensor], frame: Embeddings) -> tuple[Tensor, dict[str, Tensor]]:
        rows = {m: frame[m]._replace(values=F.normalize(x @ self.towers[m], dim=1)) for m, x in inputs.items()}
        embeddings = replace(frame, rows=rows)
        return self.objective(embeddings, generator=torch.Generator().manual_seed(11))


def objective(terms: dict[str, Term]) -> Objective:
    return Objective(terms, dim=dim, batch=7, modalities=[*owners])


def all_terms() -> dict[str, Term]:
    return {
        "clip": Term(InfoNCE(), "all", weight=0.7),
        "smooth": Term(InfoNCE(positives="inside", label_smoothing=0.1), {"audio-image": 1.0, "image-text": 0.5}),
        "sigmoid": Term(SigLIP(), [["audio", "text"]]),
        "every": Term(Symile("all"), "all"),
        "drawn": Term(Symile("shuffled"), ["audio", "image", "text"], weight=0.3),
        "some": Term(Symile(5), "all"),
        "near": Term(Symile("partial"), "all"),
    }


def outcome(extras: bool = True, graded: bool = False) -> dict[str, Any]:
    """Value, logged values and DDP's mean of the gradients on this rank; on one process simply its own."""
    model = Model(objective(graded_terms() if graded else all_terms()))
    inputs, frame = batch(rank(), world(), extras)
    if graded:  # on even samples only: the second rank has no grade
        stated = {"audio+text": torch.zeros(7, dtype=torch.int64), "image+text": torch.tensor([1, 0, 2, 0, 0, 0, 3])}
        frame.grade = None if rank() else {pair: column[frame.position] for pair, column in stated.items()}
        frame.number = frame.position
    loss, values = model(inputs, frame)
    loss.backward()
    grads = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grads[name] = parameter.grad.clone()
        if world() > 1:
            dist.all_reduce(grads[name])
            grads[name] /= world()
    return {"loss": loss.detach(), "values": values, "grads": grads, "counts": model.objective.counts()}


def case_extras() -> Any:
    return outcome()


def case_plain() -> Any:
    return outcome(extras=False)


def case_graded() -> Any:
    return outcome(graded=True)


def graded_terms() -> dict[str, Term]:
    bank = Bank(InfoNCE(start_scale=5.0), "text")
    draw = torch.Generator().manual_seed(2)
    rows = F.normalize(torch.randn(9, dim, dtype=torch.float64, generator=draw), dim=1)
    bank.fill(rows, torch.tensor([0, 1, 2, 3, 4, 5, 6, 20, 30]))
    return all_terms() | {"bank": Term(bank, "all", partial=0.25)}


def case_parts() -> Any:
    """The terms between parts: the first rank has no audio, and so no part of it."""
    model = Model(objective({"parts": Term(InfoNCE(start_scale=5.0), [["audio", "text"], ["image", "text"]])}))
    inputs, frame = batch(rank(), world())
    for m, part in parts.items():
        mine = torch.tensor(owners[m][0]) % world() == rank()
        frame.rows[m] = frame[m]._replace(part=torch.tensor(part)[mine] if bool(mine.any()) else None)
    loss, values = model(inputs, frame)
    loss.backward()
    grads = {m: tower.grad for m, tower in model.towers.items() if tower.grad is not None}
    for grad in grads.values() if world() > 1 else ():
        dist.all_reduce(grad)
        grad /= world()
    return {"values": values, "grads": grads}


def case_ddp() -> Any:
    model = Model(objective(all_terms()))
    parallel = nn.parallel.DistributedDataParallel(model)
    loss, _ = parallel(*batch(rank(), world()))
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}


def case_nothing_anywhere() -> Any:
    model = Model(objective({"clip": Term(InfoNCE(), ["audio", "image"])}))
    inputs, frame = batch(rank(), world())
    inputs["audio"], frame.rows["audio"] = inputs["audio"][:0], Rows(inputs["audio"][:0], torch.zeros(0).long())
    loss, _ = model(inputs, frame)
    loss.backward()
    return loss.detach(), model.towers["audio"].grad, model.objective.counts()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    cases = [case_extras, case_plain, case_graded, case_nothing_anywhere, case_parts]
    return on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", ["extras", "plain", "graded"])
def test_two_ranks_are_one_process(two, case):
    alone = outcome(case != "plain", case == "graded")
    for result in two[f"case_{case}"]:
        torch.testing.assert_close(result["loss"], alone["loss"], rtol=1e-13, atol=0)
        torch.testing.assert_close(result["values"], alone["values"], rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(result["grads"], alone["grads"], rtol=1e-11, atol=1e-14)
        assert result["counts"] == alone["counts"] == dict.fromkeys(alone["counts"], 0)
    assert all(grad.abs().max() > 0 for grad in alone["grads"].values())


def test_parts_pair_with_the_same_part_of_their_sample_and_else_with_all_of_it():
    """By ids of (sample, part) counted by hand; an image, which has no part, is positive with every text."""
    alone = case_parts()
    inputs, frame = batch()
    x = {m: F.normalize(v @ Model(objective(all_terms())).towers[m], dim=1) for m, v in inputs.items()}
    ids = {
        m: [100 * s + p + 1 if s >= 0 else -1 for s, p in zip(frame[m].sample.tolist(), parts[m], strict=True)]
        for m in parts
    }
    own = {m: [-1 if s < 0 else s for s in frame[m].sample.tolist()] for m in x}
    for a, b, left, right in [
        ("audio", "text", ids["audio"], ids["text"]),
        ("image", "text", own["image"], own["text"]),
    ]:
        groups_of = [of_rows(groups, frame[m].sample, -1) for m in (a, b)]
        weights_of = [of_rows(weights, frame[m].sample, 1) for m in (a, b)]
        pair = infonce_loop(
            x[a], x[b], 5.0, torch.tensor(left), torch.tensor(right),
            group_a=groups_of[0], group_b=groups_of[1], weight_a=weights_of[0], weight_b=weights_of[1],
        )  # fmt: skip
        assert alone["values"][f"parts/{a}-{b}"].item() == pytest.approx(pair.item(), rel=1e-6)  # a float32 scale


def test_parts_on_two_ranks_are_those_of_one_process(two):
    for result in two["case_parts"]:
        torch.testing.assert_close(result, case_parts(), rtol=1e-11, atol=1e-14)


@pytest.mark.slow  # DistributedDataParallel imports half of torch, on each rank
def test_real_ddp_is_one_process(tmp_path):
    alone = outcome()["grads"]
    for grads in on_ranks([case_ddp], tmp_path)["case_ddp"]:
        torch.testing.assert_close(grads, alone, rtol=1e-11, atol=1e-14)


def test_a_term_that_nothing_fits_is_a_differentiable_zero_and_counted(two):
    for loss, grad, counts in two["case_nothing_anywhere"]:
        assert loss.item() == 0
        assert torch.equal(grad, torch.zeros(width, dim, dtype=torch.float64))
        assert counts == {"clip": 1}


def embedded() -> tuple[dict[str, Tensor], dict[str, Tensor], Embeddings]:
    inputs, frame = batch()
    values = {m: F.normalize(x[:, :dim], dim=1).requires_grad_() for m, x in inputs.items()}
    rows = {m: frame[m]._replace(values=x) for m, x in values.items()}
    frame = Embeddings(rows, frame.ids, frame.position, group=frame.group, weight=frame.weight)
    return values, {m: frame[m].sample for m in rows}, frame


def test_the_sum_over_the_pairs_that_exist():
    values, samples, embeddings = embedded()
    made = objective({"clip": Term(InfoNCE(start_scale=5.0), "all", weight=0.7)}).double()
    total, logged = made(embeddings)
    scale = made.infos()[0].scale  # float32 while it is learned
    expected = 0.0
    for a, b in itertools.combinations(sorted(values), 2):
        pair = infonce_loop(
            values[a],
            values[b],
            scale,
            samples[a],
            samples[b],
            group_a=of_rows(groups, samples[a], -1),
            group_b=of_rows(groups, samples[b], -1),
            weight_a=of_rows(weights, samples[a], 1),
            weight_b=of_rows(weights, samples[b], 1),
        )
        assert logged[f"clip/{a}-{b}"].item() == pytest.approx(pair.item(), abs=1e-12)
        expected = expected + pair
    assert logged["clip"].item() == pytest.approx(expected.item(), abs=1e-12)
    assert logged["clip/scale"].item() == pytest.approx(5)
    assert not any(x.requires_grad for x in logged.values())
    assert total.shape == ()
    torch.testing.assert_close(total, 0.7 * expected, rtol=1e-12, atol=1e-12)
    grads = zip(
        torch.autograd.grad(total, [*values.values()]),
        torch.autograd.grad(0.7 * expected, [*values.values()]),
        strict=True,
    )
    for mine, theirs in grads:
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def of_rows(of_samples: Tensor, sample: Tensor, absent: float) -> Tensor:
    return torch.tensor([of_samples[s] if s >= 0 else absent for s in sample.tolist()], dtype=of_samples.dtype)


def test_pairs_and_symile_together():
    values, samples, embeddings = embedded()
    embeddings.group = embeddings.weight = None
    names = sorted(values)
    made = objective(
        {
            "pairs": Term(InfoNCE(start_scale=5.0), [["image", "text", 0.5], ["audio", "image"]]),
            "joint": Term(Symile("shuffled", start_scale=9.0), "all", weight=2.0),
        }
    ).double()
    total, logged = made(embeddings, generator=torch.Generator().manual_seed(1))
    by_pairs = [
        w * infonce(values[a], values[b], 5.0, sample_a=samples[a], sample_b=samples[b])
        for a, b, w in (("image", "text", 0.5), ("audio", "image", 1.0))
    ]
    by_all = symile(
        [values[m] for m in names],
        9.0,
        negatives="shuffled",
        samples=[samples[m] for m in names],
        generator=torch.Generator().manual_seed(1),
    )
    torch.testing.assert_close(total, sum(by_pairs) + 2 * by_all, rtol=1e-6, atol=0)
    assert sorted(logged) == ["joint", "joint/scale", "pairs", "pairs/audio-image", "pairs/image-text", "pairs/scale"]


def test_rows_in_any_order_are_sorted_by_sample():
    _, _, embeddings = embedded()
    made = objective({"joint": Term(Symile("shuffled"), "all")}).double()
    first, _ = made(embeddings, generator=torch.Generator().manual_seed(1))
    swapped = torch.tensor([3, 2, 0, 1])  # the two rows of sample 1 stay in order
    audio = embeddings["audio"]
    embeddings.rows["audio"] = Rows(audio.values[swapped], audio.sample[swapped])
    second, _ = made(embeddings, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(first, second, rtol=1e-14, atol=0)


def test_infos_are_what_scoring_reads():
    made = objective(
        {
            "clip": Term(InfoNCE(start_scale=5.0), [["image", "text"], ["image", "audio"]]),
            "sigmoid": Term(SigLIP(), ["image", "text"]),
            "joint": Term(Symile(start_scale=64.0), "all"),
        }
    )
    infos = made.infos()
    assert [(i.modalities, i.kind) for i in infos] == [
        (("image", "text"), "pairwise"),
        (("image", "audio"), "pairwise"),
        (("image", "text"), "pairwise"),
        (("audio", "image", "text"), "symile"),
    ]
    assert [i.scale for i in infos] == pytest.approx([5, 5, 10, 64])
    assert [i.bias for i in infos] == pytest.approx([0, 0, -math.log(6), 0])  # a batch of 7
    assert isinstance(infos[0], TermInfo)
    assert {type(x) for i in infos for x in (i.scale, i.bias)} == {float}


def test_start_and_clamp_reach_every_loss():
    made = Objective({"a": Term(InfoNCE(), ["x", "y"]), "b": Term(Symile(), ["x", "y", "z"])}, dim=256, batch=8)
    assert made.losses["b"].scale.item() == pytest.approx(16 * 16, rel=1e-5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(30.0)
    made.clamp_()
    assert [i.scale for i in made.infos()] == pytest.approx([100, 1600], rel=1e-4)
    assert [*made.state_dict()] == ["losses.a.log_scale", "losses.b.log_scale"]
    assert all(p.shape == (1,) for p in made.parameters())


pairs_of_three = [(("audio", "image"), 1.0), (("audio", "text"), 1.0), (("image", "text"), 1.0)]
in_yaml = [
    ("align.losses.InfoNCE", "all", pairs_of_three),
    ("align.losses.InfoNCE", "[image, text]", [(("image", "text"), 1.0)]),
    ("align.losses.InfoNCE", "[audio, image, text]", pairs_of_three),
    ("align.losses.SigLIP", "[[image, text], [image, audio]]", [(("image", "text"), 1.0), (("image", "audio"), 1.0)]),
    (
        "align.losses.InfoNCE",
        "[[image, text, 0.5], [image, audio]]",
        [(("image", "text"), 0.5), (("image", "audio"), 1)],
    ),
    ("align.losses.InfoNCE", "{image-text: 1, audio-text: 0.5}", [(("image", "text"), 1.0), (("audio", "text"), 0.5)]),
    ("{class_path: align.losses.Symile, init_args: {negatives: 64}}", "all", [(("audio", "image", "text"), 1.0)]),
    ("{class_path: align.losses.Symile, init_args: {negatives: partial}}", "[text, image]", [(("text", "image"), 1.0)]),
]


def parse(text: str, *options: str) -> Objective:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Objective, "objective")
    made = parser.parse_object(yaml.safe_load(text))
    if options:
        made = parser.parse_args([*options], namespace=made)
    return parser.instantiate(made).objective


frame_yaml = (
    "objective: {{dim: 16, batch: 8, modalities: [image, text, audio], terms: {{one: {{loss: {}, between: {}}}}}}}"
)


@pytest.mark.parametrize(("loss", "between", "expected"), in_yaml)
def test_yaml_can_say_it(loss, between, expected):
    made = parse(frame_yaml.format(loss, between))
    assert [tuple(c) for c in made.contrasts["one"]] == expected


def test_yaml_can_say_both_together_and_the_shell_can_override():
    text = """
objective:
  dim: 64
  batch: 8
  modalities: [image, text, audio]
  terms:
    pairs: {loss: align.losses.InfoNCE, between: all, weight: 0.5}
    joint: {loss: {class_path: align.losses.Symile, init_args: {negatives: shuffled}}, between: all}
"""
    made = parse(text, "--objective.terms.pairs.weight", "0.25", "--objective.terms.joint.loss.negatives", "7")
    assert made.terms["pairs"].weight == 0.25
    joint = made.losses["joint"]
    assert isinstance(joint, Symile)
    assert joint.negatives == 7
    assert joint.scale.item() == pytest.approx(80, rel=1e-5)


@pytest.mark.parametrize("between", ["[image, 3]", "3", "{image-text: much}", "some"])
def test_yaml_of_another_type_is_refused(between):
    with pytest.raises(Exception, match="between"):
        parse(frame_yaml.format("align.losses.InfoNCE", between))


@pytest.mark.parametrize(
    ("message", "term"),
    [
        ("names the modality 'imge'; there are audio, image, text; did you mean 'image'", (InfoNCE, ["imge", "text"])),
        ("names the modality 'txt'; .* did you mean 'text'", (InfoNCE, {"image-txt": 1.0})),
        (r"needs at least two modalities; it has \['image'\]", (InfoNCE, ["image"])),
        (r"needs at least two modalities; it has \[\]", (Symile, [])),
        (r"two different modalities at a time; got \['image', 'image'\]", (InfoNCE, [["image", "image"]])),
        (r"two different modalities at a time; got \['audio', 'image', 'text'\]", (InfoNCE, {"audio-image-text": 1.0})),
        (r"two or more different modalities at a time; got \['image'\]", (Symile, [["image"], ["text", "image"]])),
        ("names text-image twice", (InfoNCE, [["image", "text"], ["text", "image"]])),
        ("is between nothing", (InfoNCE, {})),
        ("its sets have one size", (Symile, [["image", "text"], ["audio", "image", "text"]])),
        (
            "Linear has no kind; kinds are pairwise, tokens, symile, volume, ",
            (lambda: nn.Linear(1, 1), ["image", "text"]),
        ),
    ],
)
def test_what_cannot_be_meant(message, term):
    loss, between = term
    with pytest.raises(ValueError, match=message):
        objective({"one": Term(loss(), between)})


def test_an_objective_knows_what_it_lacks():
    with pytest.raises(ValueError, match="an objective has at least one term; got none"):
        objective({})
    for name in ("a.b", "a/b", "", "keys"):
        with pytest.raises(ValueError, match="a term's name has no dot or slash"):
            objective({name: Term(InfoNCE(), ["image", "text"])})
    with pytest.raises(ValueError, match=r"between all modalities: Objective needs modalities=\[...\]"):
        Objective({"one": Term(InfoNCE(), "all")}, dim=4, batch=4)
    _, _, embeddings = embedded()
    made = Objective({"one": Term(InfoNCE(), ["image", "points"])}, dim=4, batch=4)
    with pytest.raises(ValueError, match="term 'one' names the modality 'points'; there are audio, image, text"):
        made(embeddings)


def test_the_modalities_that_are_contrasted():
    terms = {"clip": Term(InfoNCE(), ["audio", "image"]), "even": Term(VICReg(), ["image", "text"])}
    assert objective(terms).contrasted == {"audio", "image"}


@pytest.mark.parametrize("wrap", [Bank, Window])
def test_a_wrapper_of_a_modality_that_its_term_has_not_is_refused(wrap):
    with pytest.raises(ValueError, match=r"term 'pair' names the modality 'txt'.*did you mean 'text'"):
        Objective({"pair": Term(wrap(InfoNCE(), of="txt"), ["image", "text"])}, dim=4, batch=4)
    Objective({"pairs": Term(wrap(InfoNCE(), of="audio"), ["image", "text", "audio"])}, dim=4, batch=4)
