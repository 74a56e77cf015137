"""Every loss from the config fragment in its docstring: it trains, survives its description, and scoring reads it."""

from __future__ import annotations

import textwrap

import jsonargparse
import pytest
import torch
import torch.nn.functional as F
import yaml
from few import few
from torch import nn

from align import losses
from align.checkpoint import load, save
from align.checkpoint.describe import build, describe
from align.encoders import Precomputed
from align.evaluation.composed import composed_queries
from align.evaluation.hits import by_sample
from align.evaluation.retrieval import retrieval_shards
from align.heads import Identity
from align.lit.recalls import recalls
from align.losses import Distill, Gram, Hinge, InfoNCE, Regress, Symile, Triangle, VICReg
from align.losses.kinds import KINDS, list_read
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.preprocess import Array
from align.scoring import choose, score
from align.values import Embeddings, Features, Rows, TermInfo

dim, width, batch = 16, 12, 24
ATTRIBUTES = ("color", "digit", "domain", "shape")  # of the labels, as the fragments name them
modalities = ["audio", "image", "teacher_image", "teacher_text", "text"]
pairs_and_symile = """
terms:
  pairs: {loss: align.losses.InfoNCE, between: [audio, image, text], weight: 0.5}
  joint: {loss: {class_path: align.losses.Symile, init_args: {negatives: shuffled}}, between: [audio, image, text]}
"""


def documented() -> dict[str, str]:
    """Loss -> the fragment that its docstring shows after "In a config::"."""
    found = {}
    for name in losses.__all__:
        says = getattr(losses, name).__doc__ or ""
        if "In a config::" in says:
            lines = says.split("In a config::")[1].lstrip("\n").split("\n")
            indented = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(" " * 8)), None)
            found[name] = textwrap.dedent("\n".join(lines[:indented]))
    return found


fragments = documented() | {"pairs and Symile": pairs_and_symile}


def objective(fragment: str) -> Objective:
    """As `align train` would build it."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Objective, "objective")
    config = {"dim": dim, "batch": batch, "modalities": modalities, **yaml.safe_load(fragment)}
    made = parser.instantiate(parser.parse_object({"objective": config})).objective
    made.name_classes({name: [*"abcd"] for name in ATTRIBUTES})
    return made


class World(nn.Module):
    """Linear towers over three noisy views of a hidden vector; the teacher knows the hidden vector itself."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        hidden = torch.randn(batch, width, generator=draw)
        self.views, self.towers = {}, nn.ParameterDict()
        for m in ("audio", "image", "text"):
            mixed = hidden @ torch.randn(width, width, generator=draw) / width**0.5
            self.views[m] = mixed + 0.05 * torch.randn(batch, width, generator=draw)
            self.towers[m] = nn.Parameter(torch.randn(width, dim, generator=draw) / width**0.5)
        known = hidden @ torch.randn(width, dim, generator=draw)
        self.teacher = {m: known + 0.1 * torch.randn(batch, dim, generator=draw) for m in modalities if "_" in m}

    def forward(self, dtype: torch.dtype = torch.float32) -> Embeddings:
        values = {m: x @ self.towers[m] for m, x in self.views.items()} | self.teacher
        rows = {m: Rows(F.normalize(x, dim=1).to(dtype), torch.arange(batch)) for m, x in values.items()}
        labels = [dict.fromkeys(ATTRIBUTES, "abcd"[i % 4]) for i in range(batch)]
        return Embeddings(rows, [str(i) for i in range(batch)], torch.arange(batch), labels)


def test_every_new_loss_has_a_fragment():
    modules = {name for name in losses.__all__ if isinstance(getattr(losses, name), type)}
    others = {
        "Across",
        "Bank",
        "HardNegatives",
        "Layers",
        "Matryoshka",
        "MemoryQueue",
        "Metrix",
        "MixGeodesic",
        "Relatives",
    } | {
        "Balance",
        "Decouple",
        "Flops",
        "LateInteraction",
        "Loss",
        "MaskedTokens",
        "PrimaryComponents",
        "Route",
        "Spaces",
        "Transport",
        "Views",
        "Window",
    }  # theirs: own tests
    lacking = modules - {*fragments} - {"InfoNCE", "SigLIP", "Symile"} - others
    assert not lacking, f"{lacking}: no terms after 'In a config::' in the docstring"


@pytest.mark.parametrize("name", few(fragments, 3))
def test_trains(name):
    world, made = World(), objective(fragments[name])
    optimiser = torch.optim.Adam([*world.parameters(), *made.parameters()], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        loss, logged = made(world(), generator=generator)
        loss.backward()
        optimiser.step()
        made.clamp_()
        values.append({term: logged[term].item() for term in made.terms})
    for term in made.terms:
        first, last = values[0][term], min(v[term] for v in values[-3:])
        assert last < 0.7 * first if first > 0 else last < first - 0.1, (term, first, last)
    assert made.counts() == dict.fromkeys(made.terms, 0)
    low, _ = made(world(torch.bfloat16), generator=generator)
    assert low.isfinite()


@pytest.mark.parametrize("name", fragments)
def test_survives_its_description(name):
    made = objective(fragments[name])
    for term, loss in made.losses.items():
        told = describe(loss)
        assert told["class_path"] == f"align.losses.{type(loss).__name__}"
        assert describe(build(yaml.safe_load(yaml.safe_dump(told)))) == told
        again = build(told)
        again.start(dim, len(made.contrasts[term][0].modalities), batch)
        assert [*again.state_dict()] == [*loss.state_dict()]


@pytest.mark.parametrize("name", fragments)
def test_what_scoring_reads(name):
    """Every term but a regulariser's ranks the candidates; the students of a teacher are read as a pair."""
    made = objective(fragments[name])
    kinds = {term: KINDS[loss.kind] for term, loss in made.losses.items()}
    infos = made.infos()
    embeddings = {m: rows.values for m, rows in World()().items()}
    assert {info.kind for info in infos} <= {"pairwise", "symile", "volume", "area", "span"}
    assert len(infos) == sum(
        len(list_read(kind, c.modalities)) for term, kind in kinds.items() for c in made.contrasts[term]
    )
    for info in infos:
        *query, of = info.modalities
        got = score({m: embeddings[m] for m in query}, embeddings[of], "objective", of=of, terms=[info])
        assert got.shape == (batch, batch)


def test_infos_of_each_kind():
    terms = {
        "hinge": Term(Hinge(), ["a", "b"]),
        "volume": Term(Gram(start_scale=5.0), "all"),
        "area": Term(Triangle(start_scale=6.0), ["a", "c", "b"]),
        "learn": Term(Distill(start_scale=7.0), [["b", "a", "d", "c"]]),
        "copy": Term(Regress(), {"b-a": 1.0}),
        "spread": Term(VICReg(), "all"),
    }
    made = Objective(terms, dim=4, batch=4, modalities=["a", "b", "c", "d"])
    assert [(i.modalities, i.kind, round(i.scale, 4)) for i in made.infos()] == [
        (("a", "b"), "pairwise", 1),
        (("a", "b", "c", "d"), "volume", 5),
        (("a", "c", "b"), "area", 6),
        (("b", "a"), "pairwise", 7),
        (("b", "a"), "pairwise", 1),
    ]
    assert len(made.contrasts["spread"]) == 6
    threes = Objective({"area": Term(Triangle(), "all")}, dim=4, batch=4, modalities=["a", "b", "c", "d"])
    assert [c.name for c in threes.contrasts["area"]] == ["a-b-c", "a-b-d", "a-c-d", "b-c-d"]


@pytest.mark.parametrize(
    ("message", "loss", "between"),
    [
        ("has students and teachers: name its modalities in order, not 'all'", Distill, "all"),
        ("has students and teachers: name its modalities in order, not 'all'", Regress, "all"),
        (r"contrasts two different modalities at a time; got \['a', 'b', 'c'\]", Regress, ["a", "b", "c"]),
        (r"contrasts four different modalities at a time; got \['a', 'b', 'c'\]", Distill, [["a", "b", "c"]]),
        (r"needs at least four modalities; it has \['a', 'b'\]", Distill, ["a", "b"]),
        (r"needs at least three modalities; it has \['a', 'b'\]", Triangle, ["a", "b"]),
        (r"three different modalities at a time; got \['a', 'b', 'c', 'd'\]", Triangle, {"a-b-c-d": 1.0}),
        (r"two or more different modalities at a time; got \['a'\]", Gram, [["a"]]),
        (
            "Linear has no kind; kinds are pairwise, tokens, symile, volume, area, distill, regress, none",
            None,
            ["a", "b"],
        ),
    ],
)
def test_what_cannot_be_meant(message, loss, between):
    term = Term(nn.Linear(1, 1) if loss is None else loss(), between)
    with pytest.raises(ValueError, match=message):
        Objective({"one": term}, dim=4, batch=4, modalities=["a", "b", "c", "d"])


def test_holes_and_groups_reach_every_loss():
    """A modality with missing samples, a hard negative, groups and weights: finite, and no gradient is None."""
    for fragment in fragments.values():
        made, frame = objective(fragment), World()()
        audio = frame["audio"]
        values = {m: rows.values.detach().requires_grad_() for m, rows in frame.items()}
        rows = {m: Rows(x, torch.arange(batch)) for m, x in values.items()}
        rows["audio"] = Rows(values["audio"][:9], torch.where(torch.arange(9) == 4, -1, audio.sample[:9]))
        group, weight = torch.arange(batch) // 2, torch.linspace(0, 1, batch)
        loss, _ = made(Embeddings(rows, frame.ids, frame.position, frame.labels, group=group, weight=weight))
        assert loss.isfinite()
        used = {m for found in made.contrasts.values() for c in found for m in c.modalities}
        for grad in torch.autograd.grad(loss, [values[m] for m in sorted(used)]):
            assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "measure"), [("volume", losses.gram_volume), ("area", lambda x: losses.triangle_area(*x))]
)
def test_a_volume_is_read_as_a_volume(kind, measure):
    """In validation, in evaluation and in search, where a product of vectors would mean nothing."""
    term, pair = TermInfo(("a", "b", "c"), kind, 3.0), TermInfo(("a", "c"), "pairwise", 1.0)
    assert choose([term], ["a", "b"], "c") == choose([term, pair], ["a", "b"], "c") == "objective"
    assert choose([term], ["a"], "c") == "cosine"
    assert composed_queries([term, pair], "c") == [("a", "b")]
    draw = torch.Generator().manual_seed(0)
    values = {m: F.normalize(torch.randn(9, 3, generator=draw), dim=1) for m in "abc"}
    frame = Embeddings(
        {m: Rows(x, torch.arange(9)) for m, x in values.items()}, [str(i) for i in range(9)], torch.arange(9)
    )
    got = recalls([frame], [term])
    assert sorted(got) == ["val/a+b_to_c/recall@1", "val/a+c_to_b/recall@1", "val/b+c_to_a/recall@1"]
    for of in "abc":
        one, two = (values[m] for m in "abc" if m != of)
        best = [int(torch.stack([measure([one[i], two[i], x]) for x in values[of]]).argmin()) for i in range(9)]
        hits = sum(found == i for i, found in enumerate(best)) / 9
        name = next(n for n in got if f"_to_{of}" in n)
        assert got[name] == pytest.approx(hits)
        scores = retrieval_shards(frame, by_sample(), terms=[term])
        assert scores[name.removeprefix("val/")] == pytest.approx(hits)


def test_identity_is_the_head_of_a_teacher():
    features = Features(torch.randn(3, 5), torch.randn(3, 2, 5))
    head = Identity(5, 5)
    assert head(features) is features.pooled
    assert head(features, tokens=True) == (features.pooled, features.tokens)
    assert not [*head.parameters()]
    with pytest.raises(ValueError, match="so width and dim are equal; got 5 and 4"):
        Identity(5, 4)


def test_a_teacher_is_a_tower_of_the_model(tmp_path):
    """Its features come out as they stand in the shard, at unit length, and go through a checkpoint."""
    teacher = Tower(Array([5]), Precomputed(5), Identity)
    model = JointModel({"image": Tower(Array([3]), Precomputed(3)), "teacher_image": teacher}, dim=5)
    features = torch.randn(4, 5)
    again = load(save(model, tmp_path / "model"))
    for made in (model, again):
        out = made.embed(teacher_image=[*features])["teacher_image"]
        torch.testing.assert_close(out, F.normalize(features, dim=1))


def test_symile_and_pairs_share_their_towers():
    made = objective(pairs_and_symile)
    assert [type(loss) for loss in made.losses.values()] == [InfoNCE, Symile]
    assert [info.kind for info in made.infos()] == ["pairwise"] * 3 + ["symile"]
