"""The evaluator robustness: its numbers by a plain loop, the rows that it embeds, queries without a modality."""

from __future__ import annotations

import json
import re
from io import BytesIO

import numpy as np
import pytest
import tiny_space
import torch
import torch.nn.functional as F
from PIL import Image as Pil
from torch import nn

from align.commands import main
from align.data import Shards
from align.embedding.content import number
from align.evaluation import Retrieval, Robustness, Space, ZeroShot, evaluate, write_results
from align.evaluation.robustness.corruptions import Corrupted, corruptions_of
from align.evaluation.robustness.ledger import Ledger, highest, lowest, share_kept
from align.evaluation.robustness.measure import Asked
from align.evaluation.samples import FILE, read_samples
from align.model import JointModel, Tower
from align.preprocess import Array, Audio, Bytes, Image, Points
from align.seeds import generator
from align.values import Features, TermInfo

D = 8


class Bins(nn.Module):
    """An encoder of anything: the means of eight parts of its values, in their order."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        flat = values.flatten(1)
        return Features((F.adaptive_avg_pool1d(flat[:, None], self.width)[:, 0] - 0.1) * self.gain)


def media_model(*terms: TermInfo) -> JointModel:
    towers = {
        "sight": Tower(Image(16), Bins(), tiny_space.Pass),
        "hearing": Tower(Audio(8000, 0.1, n_mels=8, n_fft=64, hop=32), Bins(), tiny_space.Pass),
        "touch": Tower(Points(32, color=False), Bins(), tiny_space.Pass),
        "text": Tower(Bytes(context=32), tiny_space.Letters(), tiny_space.Pass),
        "sense": Tower(Array([D]), tiny_space.Straight(), tiny_space.Pass),
    }
    made = JointModel(towers, D).eval()
    made.terms = list(terms)
    return made


def media_world(n: int = 18) -> dict[str, dict[str, bytes]]:
    """Pictures with a bright row, sounds of one tone, clouds that lean, by class; sample 4 has no picture."""
    rng = np.random.default_rng(0)
    samples = {}
    for i in range(n):
        c = i % 6
        picture = np.zeros((16, 16, 3), np.uint8)
        picture[2 * c : 2 * c + 4] = 255
        file = BytesIO()
        Pil.fromarray(np.clip(picture + rng.integers(0, 60, picture.shape), 0, 255).astype(np.uint8)).save(file, "PNG")
        tone = 0.4 * np.sin(2 * np.pi * (300 + 500 * c) * np.arange(900) / 8000) + 0.05 * rng.normal(size=900)
        cloud = rng.normal(size=(80, 3)) * (1 + np.arange(3) * c)
        samples[f"{i:04d}"] = {
            "sight.png": file.getvalue(),
            "hearing.npy": b"",
            "hearing.wav": _wav(tone),
            "touch.npy": tiny_space.npy(cloud),
            "sense.npy": tiny_space.npy(np.eye(D)[c] + 0.2 * rng.normal(size=D)),
            "text.txt": f"a {tiny_space.classes[c]} {'bcdefghi'[rng.integers(8)]}".encode(),
            "json": json.dumps({"label": {"kind": tiny_space.classes[c]}}).encode(),
        }
        del samples[f"{i:04d}"]["hearing.npy"]
    del samples["0004"]["sight.png"]
    return samples


def _wav(wave: np.ndarray) -> bytes:
    import wave as waves

    file = BytesIO()
    with waves.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes((wave.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return tiny_space.write_tar(tmp_path_factory.mktemp("media") / "test-000000.tar", media_world())


@pytest.fixture(scope="module")
def found(media):
    space = Space(media_model(), Shards(str(media), shuffle=False), batch=7, draws=100)
    return space, Robustness().run(space)


def test_each_medium_has_its_scores_and_the_clean_ones_are_the_evaluators(found):
    space, findings = found
    names = {"sight": "blur noise jpeg crop", "hearing": "noise clipping speed band", "text": "typos"}
    names["touch"] = "jitter dropout rotation up_axis"
    for m, some in names.items():
        measures = [f"to_{of}/recall@1" for of in ("hearing", "sense", "sight", "text", "touch") if of != m]
        measures += [] if m == "text" else ["zeroshot/kind/accuracy"]
        for measure in measures:
            for state in ("clean", *(f"{c}@{s}" for c in some.split() for s in range(1, 6))):
                assert f"robustness/{m}/{state}/{measure}" in findings.scores
    assert not any("/sense/" in name for name in findings.scores)
    assert "robustness: sense is not corrupted, its medium (array) has no corruptions" in findings.protocol["notes"]
    zeroshot, retrieval = ZeroShot().run(space).scores, Retrieval().run(space).scores
    for m in names:
        for of in space.table():
            if of != m:
                assert findings.scores[f"robustness/{m}/clean/to_{of}/recall@1"] == retrieval[f"{m}_to_{of}/recall@1"]
        if m != "text":
            clean = findings.scores[f"robustness/{m}/clean/zeroshot/kind/accuracy"]
            assert clean == zeroshot[f"zeroshot/kind/{m}/accuracy"]


def test_a_damaged_score_is_that_of_a_plain_loop(found):
    """Decode, corrupt by the content's draws, embed one row at a time, and ask by hand."""
    space, findings = found
    model, samples = space.model, media_world()
    text = model.embed(text=[s["text.txt"].decode() for s in samples.values()])["text"]
    reader = model.preprocess["sight"]
    for name, s in (("noise", 4), ("crop", 2), ("crop", 5), ("noise", 1)):
        right, rows = [], space.altered({"sight": Corrupted(corruptions_of(reader)[name].apply, s)}).table()["sight"]
        for i, sample in enumerate(samples.values()):
            if "sight.png" in sample:
                draws = generator("altered", space.seed, "sight", number(sample["sight.png"], False))
                x = corruptions_of(reader)[name].apply(reader.decode(sample["sight.png"]), s, draws)
                with torch.no_grad():
                    row = F.normalize(model.towers["sight"](reader.collate([reader.eval(x)])), dim=-1)
                assert torch.allclose(rows.values[len(right)], row[0], atol=1e-6)
                scores = (text.double() @ row[0].double()).float()
                right.append(sum(scores > scores[i]) + sum(scores == scores[i]) == 1)
        assert findings.samples[f"robustness/sight/{name}@{s}/to_text/recall@1"][0].tolist() == right


def test_each_strength_is_applied(media, monkeypatch):
    asked, altered = [], Space.altered

    def record(space, change):
        asked.extend((m, one.strength, one.apply.__name__) for m, one in change.items())
        return altered(space, change)

    monkeypatch.setattr(Space, "altered", record)
    Robustness(["noise"], [2, 5], ["retrieval"]).run(Space(media_model(), Shards(str(media), shuffle=False), draws=0))
    assert asked == [(m, s, "noise") for m in ("hearing", "sight") for s in (2, 5)]


def test_a_file_holds_the_values_of_all_queries(media, tmp_path):
    """Read back as they are, for every kind of score that there is."""
    chosen = Robustness(["jitter", "up_axis", "sampling"], [2, 3], ["zeroshot"])
    results = evaluate(media_model(), Shards(str(media), shuffle=False), with_=[chosen], draws=0)
    write_results(results, tmp_path)
    stored = read_samples(tmp_path / FILE)
    assert set(stored.values) == set(results.scores)
    for name, (values, sample) in results.samples.items():
        assert torch.equal(stored.values[name][0], values)
        assert torch.equal(stored.values[name][1], sample)


def test_means_shares_and_spreads_follow_from_the_values(found):
    _, findings = found
    scores = findings.scores
    for name, (values, sample) in findings.samples.items():
        statistic = findings.statistics.get(name)
        ones = torch.ones(1, len(values), dtype=torch.float64)
        value = values.double().mean() if statistic is None else statistic(values, ones)
        assert scores[name] == pytest.approx(float(value), abs=1e-12), name
        assert len(values) == len(sample) > 0
        assert name in findings.intervals
    for m, c, measure in (("sight", "noise", "zeroshot/kind/accuracy"), ("touch", "rotation", "to_text/recall@1")):
        five = [scores[f"robustness/{m}/{c}@{s}/{measure}"] for s in range(1, 6)]
        assert scores[f"robustness/{m}/{c}/mean/{measure}"] == pytest.approx(np.mean(five))
        kept = scores.get(f"robustness/{m}/{c}/retained/{measure}")
        clean = scores[f"robustness/{m}/clean/{measure}"]
        assert kept == (pytest.approx(np.mean(five) / clean) if clean else None)
        three = [scores[f"robustness/touch/sampling@{seed}/{measure}"] for seed in (0, 1, 2)]
        got = [scores[f"robustness/touch/sampling/{end}/{measure}"] for end in ("mean", "lowest", "highest")]
        assert got == pytest.approx([np.mean(three), min(three), max(three)])
        two = [scores[f"robustness/touch/{state}/{measure}"] for state in ("clean", "up_axis@5")]
        got = [scores[f"robustness/touch/up_axes/{end}/{measure}"] for end in ("mean", "lowest", "highest")]
        assert got == pytest.approx([np.mean(two), min(two), max(two)])
    assert set(findings.samples) == set(scores)


def test_statistics_are_those_of_a_loop():
    values = torch.rand(9, 2, generator=generator("values", 0))
    weights = torch.randint(0, 4, (6, 9), generator=generator("weights", 0)).double()
    for w, kept, low, high in zip(
        weights, share_kept(values, weights), lowest(values, weights), highest(values, weights), strict=True
    ):
        drawn = np.repeat(values.double().numpy(), w.long().numpy(), axis=0).mean(0)
        assert (float(kept), float(low), float(high)) == pytest.approx((drawn[0] / drawn[1], drawn.min(), drawn.max()))


def test_a_clean_score_of_zero_retains_nothing():
    ledger = Ledger()
    wrong = Asked(torch.zeros(3), torch.arange(3))
    ledger.add_kept("robustness/a/blur", "m", [wrong, wrong], wrong)
    assert ledger.scores == {"robustness/a/blur/mean/m": 0}
    assert ledger.zero == ["robustness/a/blur/retained/m"]


def test_batches_and_workers_change_nothing(media, found):
    other = Space(media_model(), Shards(str(media), shuffle=False), batch=4, workers=1, draws=0)
    chosen = Robustness(["noise", "speed", "dropout", "typos", "sampling"], [2])
    again = chosen.run(other)
    assert any("/speed@2/" in name for name in again.scores)
    for name, (values, sample) in again.samples.items():
        if "/retained/" not in name:  # that is of strength 2 alone
            assert again.scores[name] == found[1].scores[name]
            assert torch.equal(values, found[1].samples[name][0])
            assert torch.equal(sample, found[1].samples[name][1])
    assert again.intervals == {}


@pytest.mark.parametrize("of", ["embedding", "features", "tokens"])
def test_an_altered_space_embeds_the_changed_modality_alone(media, of, monkeypatch):
    """Its rows are those of embedding everything anew, and the others are those of the space itself."""
    space = Space(media_model(), Shards(str(media), shuffle=False), batch=5)
    if of == "tokens":
        with pytest.raises(ValueError, match="no tower gives tokens"):
            space.altered({"sight": lambda x, draws: x}).table(of)
        return
    whole = space.table(of)
    rows: dict[str, int] = {}
    for m, tower in space.model.towers.items():
        before = tower.preprocess.eval
        monkeypatch.setattr(
            tower.preprocess, "eval", lambda x, m=m, before=before: (rows.update({m: rows.get(m, 0) + 1}), before(x))[1]
        )
    altered = space.altered({"sight": lambda x, draws: 255 - x}).altered({"touch": lambda x, draws: x * 2})
    table = altered.table(of)
    assert rows == {"sight": 17, "touch": 18}
    assert altered.bad == space.bad
    for m in whole:
        assert torch.equal(table[m].sample, whole[m].sample)
        assert torch.equal(table[m].values, whole[m].values) == (m not in ("sight", "touch"))
        if of == "embedding":
            assert torch.equal(table[m].content, whole[m].content)
        if m not in ("sight", "touch"):
            assert table[m].values is whole[m].values
    assert space.altered({}).table(of) is whole


def test_a_missing_modality_of_a_composed_query(tmp_path):
    """Symile's three: the others together, and each of them alone, over the samples that have them all."""
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", tiny_space.world(noise=1.0))
    model = tiny_space.model("pairwise", "symile")
    space = Space(model, Shards(str(path), shuffle=False), draws=50)
    findings = Robustness(["dropped"], [1]).run(space)
    assert not any("corrupted" in note for note in findings.protocol["notes"])
    table, whole = space.table(), Retrieval().run(space).scores
    have = [i for i in range(24) if i not in (3, 4)]
    row = {m: table[m].values[[table[m].sample.tolist().index(i) for i in have]].double() for m in ("image", "audio")}
    text, owner = table["text"].values.double(), table["text"].sample
    by_hand = {
        "whole": 10 * row["image"] @ text.T + 20 * (row["image"] * row["audio"]) @ text.T,
        "without_audio": 10 * row["image"] @ text.T,  # the pairwise term alone
        "without_image": row["audio"] @ text.T,  # no term fits: cosine
    }
    seen = []
    for state, scores in by_hand.items():
        right = [
            any(float((line >= line[j]).sum()) == 1 for j in (owner == i).nonzero().flatten().tolist())
            for i, line in zip(have, scores.float(), strict=True)
        ]
        name = f"robustness/audio+image/{state}/to_text/recall@1"
        assert findings.samples[name][0].tolist() == right, state
        assert findings.samples[name][1].tolist() == have
        seen.append(right)
    assert seen[0] != seen[1] != seen[2]
    whole_name = "robustness/audio+image/whole/zeroshot/kind/accuracy"
    assert findings.scores[whole_name] == ZeroShot().run(space).scores["zeroshot/kind/audio+image/accuracy"]
    assert findings.scores["robustness/audio+text/whole/to_image/recall@1"] == whole["audio+text_to_image/recall@1"]
    kept = findings.scores["robustness/audio+image/without_image/retained/zeroshot/kind/accuracy"]
    alone = findings.scores["robustness/audio+image/without_image/zeroshot/kind/accuracy"]
    assert kept == pytest.approx(alone / findings.scores[whole_name])


def test_a_constant_space_scores_0(media):
    model = media_model()
    with torch.no_grad():
        for tower in model.towers.values():
            tower.encoder.gain.zero_()
    results = evaluate(model, Shards(str(media), shuffle=False), with_=[Robustness((), [1, 5])], draws=0)
    assert results.scores
    assert set(results.scores.values()) == {0}
    (note,) = [note for note in results.protocol["notes"] if "the clean score is 0" in note]
    assert note.endswith(" and 61 more")  # 12 corruptions x (4 answers and the prompts), typos x 4 answers, less 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corruptions": ["blurr"]}, "no corruption 'blurr'; did you mean 'blur'?"),
        ({"corruptions": ["xyz"]}, "there are blur, noise"),
        ({"strengths": [6]}, "not 6"),
        ({"strengths": []}, "at least one strength"),
        ({"measure": ["probe"]}, "not 'probe'"),
        ({"k": 0}, "got 0"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Robustness(**settings)


def test_the_command_refuses(media, capsys):
    assert main(["evaluate", "m", str(media), "--with", "robustness", "--corruptions", "blurr"]) == 2
    assert "--with: no corruption 'blurr'; did you mean 'blur'?" in capsys.readouterr().err
    assert main(["evaluate", "m", str(media), "--with", "robustness", "--strengths", "1,x"]) == 2
    assert "--strengths 1,x: strengths are whole numbers" in capsys.readouterr().err


def test_lines_about_what_is_not_measured(media, monkeypatch):
    space = Space(media_model(), Shards(str(media), shuffle=False), draws=0)
    touch = space.model.preprocess["touch"]
    monkeypatch.setattr(touch, "points", 80)  # all that the clouds have
    monkeypatch.setattr(touch, "eval", lambda x: x[x[:, 0].argsort()])
    notes = Robustness(["sampling", "dropped", "typos"], [1], ["zeroshot"]).run(space).protocol["notes"]
    assert notes == [
        "robustness: sense is not corrupted, its medium (array) has no corruptions",
        "robustness of text is not measured: zero-shot asks by prompts, which no corruption changes; "
        "retrieval measures it",
        "robustness: no draw of points changes an answer of touch: its clouds may hold too few to choose",
        "robustness: no modality is dropped, because no trained term joins three modalities",
        "robustness: typos is not measured, no measured modality has it",
    ]


def test_a_recall_has_the_interval_of_retrieval_and_an_accuracy_that_of_wilson():
    ledger = Ledger()
    asked = Asked(torch.ones(4), torch.arange(4))
    for name in ("robustness/image/clean/to_text/recall@1", "robustness/image/clean/zeroshot/shape/accuracy"):
        ledger.add(name, asked)
    assert list(ledger.statistics) == ["robustness/image/clean/zeroshot/shape/accuracy"]
