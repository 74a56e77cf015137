"""Equal and absent candidates: refused, merged or said; equal captions as one answer."""

from __future__ import annotations

import html
import json

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.data.bad import TooManyBad
from align.embedding import embed_shards
from align.embedding.content import number
from align.evaluation import class_prompts, evaluate
from align.evaluation.hits import by_caption, by_group, by_label, by_sample, equal_answers
from align.evaluation.labels import memberships, spell_labels
from align.evaluation.prompts import equal_prompts
from align.evaluation.retrieval import retrieval_shards
from align.metrics import ranks
from align.report import build_gallery, write_report
from align.search.local import LocalIndex
from align.values import Embeddings, Rows, TermInfo


def shards(folder, samples, name="test-000000.tar", **options) -> Shards:
    return Shards(str(tiny_space.write_tar(folder / name, samples)), shuffle=False, **options)


def relabelled(change, n: int = 24) -> dict[str, dict[str, bytes]]:
    """``tiny_space.world`` with plain labels: change(number, class) instead of the class."""
    samples = tiny_space.world(n)
    for i, members in enumerate(samples.values()):
        label = change(i, tiny_space.classes[i % 6])
        members["json"] = json.dumps({} if label is None else {"label": label}).encode()
    return samples


def distinct() -> dict[str, dict[str, bytes]]:
    """Plain labels, and captions of which none repeats."""
    samples = relabelled(lambda i, c: c)
    for i, members in enumerate(samples.values()):
        members["text.txt"] += f" number {i}".encode()
    return samples


def notes(results) -> str:
    return "\n".join(results.protocol["notes"])


# classes


def test_a_class_named_twice_is_refused(tmp_path):
    model = tiny_space.model("pairwise")
    with pytest.raises(ValueError, match="the class 'ccc' comes twice"):
        class_prompts(model, ["ccc", "bbb", "ccc"])
    with pytest.raises(ValueError, match="'big_c' and 'big c' have the same prompts"):
        class_prompts(model, ["big_c", "big c"])
    with pytest.raises(ValueError, match="the classes of label name 'bbb' twice"):
        evaluate(model, shards(tmp_path, relabelled(lambda i, c: c)), classes=["bbb", "ccc", "bbb"])


def test_equal_prompts_are_those_that_the_tokenizer_reads_alike():
    model = tiny_space.model()
    cut = "c" * 40
    names = ["big_cone", "big cone", "Big Cone", "cone", f"{cut}b", f"{cut}d", "big  cone"]
    assert equal_prompts(model, names) == [0, 0, 0, 3, 4, 4, 6]
    assert equal_prompts(model, ["c", "cc"], ["{}" + "b" * 40, "{}"]) == [0, 1]  # one template tells them apart


def test_labels_with_equal_prompts_are_one_class(tmp_path):
    """Half of the class ccc is spelt in another way: as two classes they would tie, and none of them be found."""
    model = tiny_space.model("pairwise")
    plain = evaluate(model, shards(tmp_path / "a", relabelled(lambda i, c: c)))
    spelt = {0: "c_c", 1: "c c"}
    mixed = relabelled(lambda i, c: spelt[i // 6 % 2] if c == "ccc" else c)
    words = {c: c for c in tiny_space.classes if c != "ccc"} | {"c_c": "ccc", "c c": "ccc"}
    found = evaluate(model, shards(tmp_path / "b", mixed), classes=words)
    assert found.scores["zeroshot/label/image/accuracy"] == plain.scores["zeroshot/label/image/accuracy"]
    assert found.scores["zeroshot/label/image/chance"] == pytest.approx(1 / 6)
    assert found.protocol["same prompts"] == {"label": {"c c": "c_c"}}
    assert "'c_c' and 'c c' have the same prompts" in notes(found)
    by_itself = evaluate(model, shards(tmp_path / "c", mixed), templates=["{}"])
    assert by_itself.protocol["same prompts"] == {"label": {"c_c": "c c"}}
    assert not plain.protocol["same prompts"]


def test_samples_that_are_not_scored_are_counted_and_named(tmp_path):
    model = tiny_space.model("pairwise")
    samples = relabelled(lambda i, c: None if i == 7 else [c, "extra"] if i == 8 else c)
    found = evaluate(model, shards(tmp_path, samples), classes=["bbb", "ccc", "unicorn", "griffin"])
    assert found.protocol["scored"]["label"] == {
        "samples": 7,
        "samples with other labels": 16,
        "samples without a label": 1,
        "other labels": {"ddd": 4, "eee": 4, "fff": 4, "ggg": 4, "extra": 1},
        "classes without a sample": ["unicorn", "griffin"],
    }
    said = notes(found)
    assert "7 of 24 samples are scored; 16 have a label outside the classes: 'ddd' (4), 'eee' (4)" in said
    assert "1 have no label" in said
    assert "no sample has the label 'unicorn', 'griffin'" in said
    (note,) = evaluate(model, shards(tmp_path, distinct(), "b.tar")).protocol["notes"]
    assert note.startswith("ece of audio is not measured: no trained term joins it with text alone")


def test_a_dropped_measurement_says_why(tmp_path):
    model, samples = tiny_space.model("pairwise"), relabelled(lambda i, c: c)
    nobody = evaluate(model, shards(tmp_path / "a", samples), classes=["x", "y"])
    assert not any(key.startswith("zeroshot/") for key in nobody.scores)
    assert "label: nothing is measured, no sample has one of its classes ('x', 'y'); 24 have a label" in notes(nobody)
    unlabelled = evaluate(model, shards(tmp_path / "b", relabelled(lambda i, c: None)))
    assert "zero-shot is not measured: the shards have no labels" in notes(unlabelled)
    for i, members in enumerate(samples.values()):
        if i % 6 != 2:
            members.pop("audio.npy", None)
    some = evaluate(model, shards(tmp_path / "c", samples), classes=["bbb", "ccc"])
    assert "zero-shot of label from audio is not measured: no sample with a class has a row of audio" in notes(some)
    for members in samples.values():
        members.pop("audio.npy", None)
    silent = evaluate(model, shards(tmp_path / "d", samples))
    assert "nothing is measured of audio: the shards have no row of it" in notes(silent)
    mute = tiny_space.model("pairwise")
    del mute.towers["text"]
    deaf = evaluate(mute, shards(tmp_path / "e", tiny_space.world()))
    assert "zero-shot is not measured: the model has no tower for text; it has image, audio" in notes(deaf)
    with pytest.raises(ValueError, match="nothing could be measured; zero-shot is not measured: the shards have no"):
        evaluate(model, shards(tmp_path / "f", {"0": {"image.npy": tiny_space.npy(torch.ones(8))}}))


def test_class_names_that_are_numbers_are_said_and_given_by_position(tmp_path):
    model = tiny_space.model("pairwise")
    samples = {
        key: members | {"cls": str(i % 6).encode()} for i, (key, members) in enumerate(tiny_space.world().items())
    }
    for members in samples.values():
        del members["json"]
    numbers = evaluate(model, shards(tmp_path, samples))
    assert "label: the class names are numbers, and zero-shot asks with '0', 'a 0', …; give" in notes(numbers)
    assert "--classes" in notes(numbers)
    by_name = evaluate(model, shards(tmp_path, samples), classes=tiny_space.classes)
    as_words = evaluate(model, shards(tmp_path, samples), classes=dict(zip("012345", tiny_space.classes, strict=True)))
    named = evaluate(model, shards(tmp_path / "n", relabelled(lambda i, c: c)))
    for found in (by_name, as_words):
        assert "numbers" not in notes(found)
        assert found.scores["zeroshot/label/image/accuracy"] > numbers.scores["zeroshot/label/image/accuracy"] + 0.5
        assert found.protocol["scored"]["label"]["samples"] == 24
    assert by_name.scores["zeroshot/label/audio/accuracy"] == pytest.approx(
        named.scores["zeroshot/label/audio/accuracy"], abs=1e-9
    )


def test_a_number_is_a_name_or_a_position_and_never_both():
    """Of the digits 7 and 9, digit 0 is not the first class; nor is the set's first class that of a chosen list."""
    assert memberships([7, 0, 1, 9], "label", ["7", "9"]).int().tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]
    assert memberships([7, 0, "cat"], "label", ["7", "cat"]).int().tolist() == [[1, 0], [0, 0], [0, 1]]
    assert memberships([1, 0, 2], "label", ["cat", "dog"]).int().tolist() == [[0, 1], [1, 0], [0, 0]]
    known = {"label": ["plane", "bird", "car"], "digit": ["0", "1"], "mixed": ["1", "x"]}
    assert spell_labels([2, "bird", None, [0, 1], 9], known) == ["car", "bird", None, ["plane", "bird"], 9]
    assert spell_labels([{"label": 1, "digit": 1, "mixed": 1}], known) == [{"label": "bird", "digit": 1, "mixed": 1}]


def test_chosen_classes_of_numbered_labels_are_the_sets_own(tmp_path):
    samples = relabelled(lambda i, c: tiny_space.classes.index(c))
    opened = shards(tmp_path, samples)
    (tmp_path / "manifest.json").write_text(
        json.dumps({"shards": {"test-000000.tar": {"samples": 24}}, "classes": {"label": tiny_space.classes}})
    )
    found = evaluate(tiny_space.model("pairwise"), opened, classes=["ddd", "eee"])
    assert found.protocol["scored"]["label"]["other labels"] == {"bbb": 4, "ccc": 4, "fff": 4, "ggg": 4}
    assert found.scores["zeroshot/label/image/accuracy"] > 0.7


# equal captions

CAPTIONS = {  # several a sample, one that a sample says twice, a hole, hard negatives; "A  DOG" is "a dog"
    0: ["a dog", "it barks"],
    1: ["A  DOG"],
    2: ["a cat", "a dog"],
    3: [],
    4: ["a cow", "a cow"],
    5: ["a cat"],
    6: ["an egg"],
}
NEGATIVES = {0: ["a cat"], 6: ["no egg"], 4: ["a cow"]}


def captioned(folder, **options) -> tuple[Shards, list[tuple[int, str]]]:
    """The shards, and the rows of text in their order: (sample or -1, text)."""
    samples, rows = {}, []
    for i, texts in CAPTIONS.items():
        draw = torch.Generator().manual_seed(i)
        samples[f"{i}"] = {"image.npy": tiny_space.npy(torch.randn(8, generator=draw))}
        if i != 2:
            samples[f"{i}"]["audio.npy"] = tiny_space.npy(torch.randn(8, generator=draw))
        if texts:
            samples[f"{i}"]["text.txt"] = "\n".join(texts).encode()
        if i in NEGATIVES:
            samples[f"{i}"]["text.neg.txt"] = "\n".join(NEGATIVES[i]).encode()
        rows += [(i, text) for text in texts] + [(-1, text) for text in NEGATIVES.get(i, [])]
    return shards(folder, samples, **options), rows


def plain(text: str) -> str:
    return " ".join(text.split()).lower()


def said(sample: int) -> set[str]:
    return {plain(text) for text in CAPTIONS.get(sample, [])}


def loop(embeddings, rows, of: str, by: str) -> list[int]:
    """The rank of each query with a hit, a candidate at a time."""

    def entries(m):
        if m == "text":
            return [(sample, plain(text)) for sample, text in rows]
        return [(sample, None) for sample in embeddings[m].sample.tolist()]

    def hit(query, answer):
        if of == "text":
            return answer[1] in said(query[0])
        if by == "text":
            return query[1] in said(answer[0])
        return query[0] == answer[0]

    scores = embeddings[by].values.double() @ embeddings[of].values.double().T
    found = []
    for query, row in zip(entries(by), scores.float().tolist(), strict=True):
        right = [hit(query, answer) for answer in entries(of)]
        if query[0] >= 0 and any(right):
            best = max(s for s, h in zip(row, right, strict=True) if h)
            found.append(1 + sum(s >= best for s, h in zip(row, right, strict=True) if not h))
    return found


@pytest.mark.parametrize("hit", ["sample", "caption"])
def test_the_gallery_marks_the_hits_that_the_numbers_count(tmp_path, hit):
    opened, _ = captioned(tmp_path)
    found = evaluate(tiny_space.model(), opened, hit=hit)
    gallery = build_gallery(found.embeddings, opened, hit=found.hit, queries=7, k=7)
    marks = {(gallery.items[q.item].key, gallery.items[a.item].key): a.hit for q in gallery.queries for a in q.answers}
    assert len(marks) >= 30
    for (one, other), marked in marks.items():
        equal = hit == "caption" and not said(int(one)).isdisjoint(said(int(other)))
        assert marked == (one == other or equal), (one, other)


@pytest.mark.parametrize("workers", [0, 1])
def test_equal_captions_are_one_answer(tmp_path, workers):
    opened, rows = captioned(tmp_path)
    model = tiny_space.model()
    found = evaluate(model, opened, batch=3, workers=workers, hit="caption", ks=range(1, 10))
    e = found.embeddings
    assert [(s, plain(t)) for s, t in rows] == [
        (s, plain(t)) for s, (_, t) in zip(e["text"].sample.tolist(), rows, strict=True)
    ]
    for by, of in [("image", "text"), ("text", "image"), ("audio", "text"), ("text", "audio"), ("image", "audio")]:
        places = loop(e, rows, of, by)
        for k in range(1, 10):
            expected = sum(place <= k for place in places) / len(places)
            assert found.scores[f"{by}_to_{of}/recall@{k}"] == pytest.approx(expected), (by, of)
    assert found.protocol["hit rule"].startswith("caption: a text equal")
    assert "text" not in found.protocol["equal answers"]


def test_repeated_captions_are_never_found_without_it(tmp_path):
    """Every caption is that of two samples: by sample both tie, by caption each is found."""
    samples = tiny_space.world(12, noise=0.01)
    for i in (3, 4, 5):
        samples[f"{i:04d}"] = dict(tiny_space.world(12, seed=1, noise=0.01)[f"{i + 6:04d}"])
    for i, members in enumerate(samples.values()):
        members["text.txt"] = tiny_space.classes[i % 6].encode()
    opened, model = shards(tmp_path, samples), tiny_space.model("pairwise")
    plain, equal = (evaluate(model, opened, hit=hit) for hit in (None, "caption"))
    assert plain.scores["image_to_text/recall@1"] == 0
    assert equal.scores["image_to_text/recall@1"] == equal.scores["text_to_image/recall@1"] == 1
    assert plain.protocol["equal answers"] == {"text": 12}
    assert "12 of 12 answers of text equal another that is no hit" in notes(plain)
    assert "--hit caption" in notes(plain)
    assert "answers" not in notes(equal)


def test_equal_answers_count_only_what_the_rule_tells_apart():
    content = torch.tensor([5, 5, 5, 6, 6, 7, 8])
    rows = Rows(torch.eye(7), torch.tensor([0, 1, 2, 3, 3, 4, -1]), content=content)
    e = Embeddings(
        {"text": rows},
        list("abcde"),
        torch.arange(5),
        ["x", "x", "y", "z", "z"],
        group=torch.tensor([9] * 2 + [-1] * 3),
    )
    assert equal_answers(e, by_sample()) == {"text": 3}
    assert equal_answers(e, by_group(e)) == {"text": 3}  # the third is of no group
    assert equal_answers(e, by_label(e, "label", ["x", "y", "z"])) == {"text": 3}
    assert equal_answers(e, by_label(e, "label", ["z"])) == {"text": 3}
    same = Embeddings({"text": rows}, e.ids, e.position, group=torch.full((5,), 9))
    assert equal_answers(same, by_group(same)) == {"text": 0}
    assert equal_answers(e, by_caption(e)) == {}


def test_composed_queries_by_caption():
    """Two images and a sound ask for the text that two samples have; a text and a sound for either of their images."""
    x = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    s = torch.arange(4)
    texts = Rows(x[[0, 0, 2, 3]], s, content=torch.tensor([1, 1, 2, 3]))
    images = torch.ones(4, 8)
    e = Embeddings({"image": Rows(images, s), "audio": Rows(x[[1, 0, 2, 3]], s), "text": texts}, list("abcd"), s)
    scores = retrieval_shards(e, by_caption(e), terms=[TermInfo(("image", "audio", "text"), "symile", 1.0)], ks=(1,))
    product = x[[1, 0, 2, 3]] @ texts.values.T
    right = texts.content[:, None] == texts.content
    expected = float((ranks(product, right) == 1).double().mean())
    assert scores["audio+image_to_text/recall@1"] == pytest.approx(expected)
    assert scores["audio+text_to_image/recall@1"] == 0  # all images are one: a tie with a wrong one


def test_captions_need_text_and_content(tmp_path):
    opened, _ = captioned(tmp_path)
    model = tiny_space.model()
    with pytest.raises(ValueError, match="content=True"):
        by_caption(embed_shards(model, opened))
    del model.towers["text"]
    with pytest.raises(ValueError, match="hit 'caption' needs rows of text; there are rows of audio, image"):
        evaluate(model, opened, hit="caption")


def test_content_is_of_the_text_and_not_of_its_tokens():
    assert number(b"a  Dog\n", True) == number("a dog", True) == number("\ufeffA DOG".encode(), True)
    assert number(b"a dog", True) != number(b"a dogs", True)
    assert number(b"ab", False) != number(b"AB", False)
    assert number(object(), False) == -1


# bad samples


def test_a_test_set_with_dead_files_is_evaluated_with_max_bad(tmp_path, capsys):
    samples = tiny_space.world(48)
    for i in range(14):  # all at the beginning, where they are far more than a third of what was seen
        samples[f"{i:04d}"] = {"image.npy": b"no array", "json": b"{}"}
    path = tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", samples)
    save(tiny_space.model("pairwise"), tmp_path / "model")
    with pytest.raises(TooManyBad):
        evaluate(tiny_space.model(), Shards(str(path), shuffle=False))
    for command in ("evaluate", "index build"):
        args = [*command.split(), str(tmp_path / "model"), str(path), "--allow", "tiny_space", "--batch", "8"]
        args += ["--out", str(tmp_path / command)]
        capsys.readouterr()
        assert main(args) == 3
        err = capsys.readouterr().err
        assert "--max-bad 0.1" in err.splitlines()[-1]
        assert "array/" in err
        assert main([*args, "--max-bad", "0.3"]) == 0
        out = "".join(capsys.readouterr())
        assert "14 array/" in out
    about = json.loads((tmp_path / "evaluate" / "results.json").read_text())["protocol"]
    assert about["max bad"] == 0.3
    assert about["samples"] == 34
    assert sum(n for reason, n in about["bad"].items() if reason.startswith("array/")) == 14
    assert "14 of 48 samples have no row that could be read" in "\n".join(about["notes"])


def test_members_of_foreign_names_are_evaluated(tmp_path, capsys):
    samples = {}
    for key, members in tiny_space.world().items():
        caption = members["text.txt"].decode().splitlines()
        samples[key] = {"feat.npy": members.get("image.npy", tiny_space.npy(torch.ones(8)))}
        samples[key]["json"] = json.dumps({"label": "x", "caption": caption[0]}).encode()
        samples[key]["npy"] = samples[key].pop("feat.npy")
    path = tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", samples)
    save(tiny_space.model("pairwise"), tmp_path / "model")
    common = [str(tmp_path / "model"), str(path), "--allow", "tiny_space", "--members", "image=npy,text=json:caption"]
    assert main(["evaluate", *common, "--out", str(tmp_path / "r")]) == 0
    about = json.loads((tmp_path / "r" / "results.json").read_text())["protocol"]
    assert about["rows"] == {"audio": 0, "image": 24, "text": 24}
    assert about["members"]["text"] == ["json:caption"]
    assert main(["index", "build", *common, "--out", str(tmp_path / "i")]) == 0
    with LocalIndex.open(tmp_path / "i") as index:
        assert index.items([1])[0].captions == [json.loads(samples["0000"]["json"])["caption"]]
    capsys.readouterr()


# the page


def test_the_page_shows_the_notes(tmp_path):
    about = {"notes": ["label: 7 of 24 samples are scored; 'a<b' (2)"], "hit rule": "sample: a row"}
    page = write_report(tmp_path / "r.html", title="r", scores={"image_to_text/recall@1": 0.5}, protocol=about)
    text = page.read_text()
    assert "7 of 24 samples are scored; 'a<b' (2)" in html.unescape(text)
    assert "a<b" not in text
    assert text.count("7 of 24 samples") == 1
    none = write_report(tmp_path / "n.html", title="r", scores={"image_to_text/recall@1": 0.5}, protocol={"notes": []})
    assert 'id="notes"' not in none.read_text()
