"""mteb's harness beside align's own evaluation: where they are equal, and each place where they are not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import mteb
import numpy as np
import pytest
import tiny_space
import torch
from mteb.mocks.mock_tasks.sts import MockSTSTask
from test_composed import QUERIES
from tiny_data import wav

from align.commands import main
from align.convert import mteb as wrap
from align.convert.harness.batches import embed_batches, read_batch
from align.convert.harness.beside import find_missing, measure
from align.convert.harness.build import build_tasks
from align.data import Shards
from align.evaluation import Composed, Retrieval, ZeroShot, evaluate

pytestmark = pytest.mark.slow  # mteb imports sentence-transformers

EVALUATORS = (Retrieval(), ZeroShot())


def distinct(n: int = 20, seed: int = 3, noise: float = 0.9) -> dict[str, dict[str, bytes]]:
    """Samples without equal rows: texts of different counts, and vectors near these."""
    rng = np.random.default_rng(seed)
    samples, seen = {}, set()
    while len(samples) < n:
        counts = rng.integers(0, 4, size=8)
        if tuple(counts) in seen or not counts.any():
            continue
        seen.add(tuple(counts))
        text = "".join(letter * k for letter, k in zip("bcdefghi", counts, strict=True))
        kind = tiny_space.classes[int(counts[:6].argmax())]
        samples[f"{len(samples):04d}"] = {
            "image.npy": tiny_space.npy(counts + noise * rng.normal(size=8)),
            "audio.npy": tiny_space.npy(counts + noise * rng.normal(size=8)),
            "text.txt": text.encode(),
            "json": json.dumps({"label": {"kind": kind}}).encode(),
        }
    return samples


def run(model, path, *, queries=(), how=None, templates=("a {}",), evaluators=EVALUATORS):
    """Return {(task, score): its line} and the notes of all tasks of a shard."""
    ours = evaluate(model, Shards(str(path), shuffle=False), with_=evaluators, templates=list(templates), draws=0)
    built = build_tasks(model, Shards(str(path), shuffle=False), title="t", queries=queries, how=how)
    found = measure(wrap(model, how=how, keep=True), built.tasks, None, ours.scores)
    return {(line.task, line.score): line for line in found.lines}, found.notes, ours.scores


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return tiny_space.write_tar(tmp_path_factory.mktemp("distinct") / "test-000000.tar", distinct())


@pytest.fixture(scope="module")
def symile(shard):
    return run(tiny_space.model("pairwise", "symile"), shard)


def test_every_score_is_ours_where_the_protocol_is_the_same(symile):
    """Pairs, a pair and a Symile term together, and zero-shot. mteb rounds to five digits, its mrr and accuracy not."""
    lines, notes, ours = symile
    assert not notes
    names = {task for task, _ in lines}
    pairs = [f"t-{a}_to_{b}" for a in ("audio", "image", "text") for b in ("audio", "image", "text") if a != b]
    several = ["t-audio+image_to_text", "t-audio+text_to_image", "t-image+text_to_audio"]
    shot = [f"t-zeroshot-kind-{m}" for m in ("audio", "image", "audio+image")]
    assert names == {*pairs, *several, *shot}
    for (task, score), line in lines.items():
        assert line.ours is not None, (task, score)
        exact = score == "mrr_at_1000" or (score == "accuracy" and not line.rule)
        expected = line.ours if exact else round(line.ours, 5)
        assert line.theirs == pytest.approx(expected, abs=1e-6), (task, score)
    assert 0 < lines["t-audio+image_to_text", "hit_rate_at_1"].theirs <= 1
    assert len({round(line.theirs, 3) for line in lines.values()}) > 10  # not all 0 or 1
    rules = {task: line.rule for (task, _), line in lines.items()}
    assert rules["t-audio+image_to_text"] == rules["t-image_to_text"] == "objective"
    assert rules["t-audio_to_image"] == "cosine"
    assert len(ours) > len(lines)


def test_a_sum_of_embeddings_is_another_order(tmp_path):
    """An encoder alone adds the rows of a query: Symile's product is not read."""
    from mteb.models.search_wrappers import SearchEncoderWrapper

    shard = tiny_space.write_tar(tmp_path / "test-000000.tar", distinct(30, noise=2.0))
    model = tiny_space.model("symile")
    (task,) = [
        task
        for task in build_tasks(model, Shards(str(shard), shuffle=False), title="t").tasks
        if task.metadata.name == "t-audio+image_to_text"
    ]
    scores = {}
    for name, one in (("search", wrap(model)), ("sum", SearchEncoderWrapper(wrap(model)))):
        found = mteb.evaluate(one, task, cache=None, co2_tracker=False, show_progress_bar=False)
        scores[name] = found.task_results[0].scores["test"][0]["mrr_at_1000"]
    ours = evaluate(model, Shards(str(shard), shuffle=False), with_=[Retrieval()], draws=0).scores
    assert scores["search"] == pytest.approx(ours["audio+image_to_text/mrr"], abs=1e-6)
    assert abs(scores["sum"] - scores["search"]) > 1e-3


def test_recall_is_a_share_of_the_captions(tmp_path):
    """Three captions each: mteb's recall@1 is at most 1/3, its hit rate is our recall."""
    samples = distinct(12)
    texts = [members["text.txt"].decode() for members in samples.values()]
    for i, members in enumerate(samples.values()):
        members["text.txt"] = f"{texts[i]}\n{texts[i]}b\n{texts[i]}ci".encode()
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", samples)
    model = tiny_space.model("pairwise")
    shards = Shards(str(path), shuffle=False)
    (task,) = [one for one in build_tasks(model, shards).tasks if one.metadata.name.endswith("image_to_text")]
    found = mteb.evaluate(wrap(model), task, cache=None, co2_tracker=False, show_progress_bar=False)
    theirs = found.task_results[0].scores["test"][0]
    scores = wrap_scores(model, shards)
    loop = {"recall": [], "hit": []}
    for i, row in enumerate(scores):
        best = row.argmax() // 3 == i
        loop["recall"].append(float(best) / 3)
        loop["hit"].append(float(best))
    assert theirs["recall_at_1"] == pytest.approx(np.mean(loop["recall"]), abs=1e-5)
    assert theirs["hit_rate_at_1"] == pytest.approx(np.mean(loop["hit"]), abs=1e-5)
    ours = evaluate(model, shards, with_=[Retrieval()], draws=0).scores["image_to_text/recall@1"]
    assert ours == pytest.approx(np.mean(loop["hit"]))
    assert ours > theirs["recall_at_1"] > 0
    assert task.notes == [
        "12 of 12 queries have several right documents: mteb's recall@k is the share of them that is found, its "
        "hit_rate@k is align's recall@k"
    ]


def wrap_scores(model, shards):
    """Return cosines of each image with each text, in numpy."""
    table = evaluate(model, shards, with_=[Retrieval()], draws=0).embeddings
    a, b = (np.asarray(table[m].values, dtype=np.float64) for m in ("image", "text"))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_a_tie_is_luck_there_and_never_helps_here(tmp_path):
    """Samples 0 and 1 have one text. mteb orders equal scores by the documents' names, the highest first."""
    samples = {
        "a": {"image.npy": tiny_space.npy([1, 0, 0, 0, 0, 0, 0, 0]), "text.txt": b"bb"},
        "b": {"image.npy": tiny_space.npy([1, 0, 0, 0, 0, 0, 0, 0]), "text.txt": b"bb"},
        "c": {"image.npy": tiny_space.npy([0, 0, 1, 0, 0, 0, 0, 0]), "text.txt": b"dd"},
    }
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", samples)
    lines, notes, _ = run(tiny_space.model("pairwise"), path, evaluators=[Retrieval()])
    line = lines["t-image_to_text", "hit_rate_at_1"]
    assert line.theirs == pytest.approx(2 / 3, abs=1e-5)  # b and c: b stands before a
    assert line.ours == pytest.approx(1 / 3)  # c
    assert notes == [
        "t-image_to_text, t-text_to_image: 3 of 3 queries have equal scores among their best: mteb orders these by "
        "the documents' names, and in align a tie never helps"
    ]
    captions = evaluate(
        tiny_space.model("pairwise"), Shards(str(path), shuffle=False), with_=[Retrieval()], draws=0, hit="caption"
    )
    assert captions.scores["image_to_text/recall@1"] == 1  # equal texts are one answer, which mteb has no rule for


@pytest.mark.parametrize(("how", "way"), [(None, "sum"), ("mip", "product")])
def test_composed_queries_are_ours(tmp_path, how, way):
    """The reference is no candidate, and every part of the query counts."""
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", tiny_space.world(noise=0.6))
    model = tiny_space.model("pairwise")
    lines, _, _ = run(model, path, queries=QUERIES, how=how, evaluators=[Composed(QUERIES)])
    checked = 0
    for (task, score), line in lines.items():
        if "composed" in task:
            assert line.theirs == pytest.approx(line.ours, abs=1e-5), (task, score)
            assert line.rule == (how or "cosine")
            checked += 1
    assert checked == 5
    names = {task for task, _ in lines if "composed" in task}
    assert names == {"t-composed", "t-composed-subset"}


def test_a_prompt_is_one_there(tmp_path):
    """Of two templates align takes the mean, mteb has one. Samples of two classes have no task."""
    model = tiny_space.model("pairwise")
    shard = tiny_space.write_tar(tmp_path / "noisy" / "test-000000.tar", distinct(40, noise=1.5))
    templates = ["a {}", "eeeeee {} b"]
    read = Shards(str(shard), shuffle=False)
    two = evaluate(model, read, with_=[ZeroShot()], templates=templates, draws=0).scores
    lines, _, one = run(model, shard, evaluators=[ZeroShot()])
    line = lines["t-zeroshot-kind-image", "accuracy"]
    assert line.theirs == pytest.approx(one["zeroshot/kind/image/accuracy"])
    assert line.theirs != two["zeroshot/kind/image/accuracy"]
    samples = distinct(6)
    samples["0002"]["json"] = json.dumps({"label": {"kind": ["bbb", "ccc"]}}).encode()
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", samples)
    _, notes, _ = run(model, path, evaluators=[ZeroShot()])
    assert any(note.endswith("1 samples have several classes of kind: mteb's task leaves them out") for note in notes)


def test_groups_are_right_documents_here_too(tmp_path):
    path = tiny_space.write_tar(tmp_path / "test-000000.tar", tiny_space.world(18, group=True, noise=0.9))
    lines, _, _ = run(tiny_space.model("pairwise"), path, evaluators=[Retrieval()])
    for score in ("ndcg_at_10", "hit_rate_at_1", "mrr_at_1000"):
        line = lines["t-image_to_audio", score]
        assert line.theirs == pytest.approx(line.ours, abs=1e-5)


def test_a_search_gives_the_best_of_its_list(shard):
    """top_k of all documents, or of those that are listed for the query."""
    model = tiny_space.model("pairwise")
    built = build_tasks(model, Shards(str(shard), shuffle=False), title="t")
    (task,) = [one for one in built.tasks if one.metadata.name == "t-image_to_text"]
    data = task.dataset["default"]["test"]
    harness = wrap(model)
    given = {"task_metadata": task.metadata, "encode_kwargs": {}}
    harness.index(data["corpus"], **given)
    scores = wrap_scores(model, Shards(str(shard), shuffle=False))
    names = list(data["corpus"]["id"])
    best = [[names[j] for j in sorted(range(20), key=lambda j: -row[j])] for row in scores]
    found = harness.search(data["queries"], top_k=3, **given)
    assert [list(found[name]) for name in names] == [one[:3] for one in best]
    listed = dict.fromkeys(names, names[5:15])
    found = harness.search(data["queries"], top_k=2, top_ranked=listed, **given)
    assert [list(found[name]) for name in names] == [[x for x in one if x in names[5:15]][:2] for one in best]
    assert harness.searched["t-image_to_text"] == ("objective", 20, 0)


class Decoder:
    """A decoder as datasets gives it: it answers to two keys."""

    def __getitem__(self, key):
        return {"array": np.ones((2, 3)), "sampling_rate": 8000}[key]


def test_forms_of_inputs():
    sound = {"array": np.zeros(3), "sampling_rate": 8000}
    stored = {"bytes": wav(1), "path": None}
    rows = [sound, stored, {"bytes": None, "path": "x.wav"}, Decoder(), b"RIFF"]
    found = read_batch({"audio": rows, "id": list("abcde")}, ["audio", "text"])
    assert list(found) == ["audio"]
    wave, rate = found["audio"][0]
    assert (wave.dtype, wave.shape, rate) == (np.float32, (3,), 8000)
    assert found["audio"][1:3] == [wav(1), "x.wav"]
    assert found["audio"][3][0].shape == (2, 3)
    assert found["audio"][4] == b"RIFF"
    assert read_batch({"image": [stored], "align:points": [b"x"]}, ["image", "points"]) == {
        "image": [wav(1)],
        "points": [b"x"],
    }
    with pytest.raises(ValueError, match="task T: row 1 of a batch has no text; each of its rows needs one"):
        read_batch({"text": ["a", None]}, ["text"], "T")
    with pytest.raises(ValueError, match="an entry of datasets has bytes or a path; this one has bytes"):
        read_batch({"image": [{"bytes": None}]}, ["image"])
    with pytest.raises(ValueError, match="task T: no modality of the model is in its columns, video; the model has im"):
        embed_batches(tiny_space.model(), [{"video": [1]}], "T")


def pictures():
    """A model of real pictures and sounds, beside texts."""
    from tiny_data import readers

    from align import JointModel, Tower
    from align.encoders import SpectrogramCNN
    from align.heads import Linear
    from align.preprocess import Bytes, Image

    torch.manual_seed(0)
    towers = {
        "image": Tower(Image(size=8), tiny_space.Colours(), tiny_space.Pass),
        "audio": Tower(readers()["audio"], SpectrogramCNN(width=8, n_mels=8, widths=(8, 16), stem=2), Linear),
        "text": Tower(Bytes(context=64), tiny_space.Letters(), tiny_space.Pass),
    }
    return JointModel(towers, tiny_space.D).eval()


@pytest.mark.parametrize(
    "name",
    [
        "classification.MockImageClassificationTask",
        "clustering.MockImageClusteringTask",
        "zeroshot_classification.MockZeroShotClassificationTask",
        "zeroshot_classification.MockTextZeroShotClassificationTask",
        "pair_classification.MockImageTextPairClassificationTask",
        "pair_classification.MockPairClassificationTask",
        "sts.MockSTSTask",
        "retrieval.MockAny2AnyRetrievalI2TTask",
        "retrieval.MockInstructionRetrieval",
        "reranking.MockRerankingTask",
    ],
)
def test_mtebs_tasks_run(name):
    """Each kind of task, with mteb's own small data."""
    from importlib import import_module

    module, kind = name.split(".")
    task = getattr(import_module(f"mteb.mocks.mock_tasks.{module}"), kind)()
    found = measure(wrap(pictures()), [task], None)
    assert len(found.lines) == 1
    assert np.isfinite(found.lines[0].theirs)


def test_an_encoder_gives_our_rows(shard):
    """One modality as it is, several as the unit sum of unit rows, and cosines of any rows."""
    model = tiny_space.model("pairwise")
    harness = wrap(model, name="me/mine")
    named = SimpleNamespace(name="T")
    texts, arrays = ["bbc", "dd"], [tiny_space.npy(np.arange(8)), tiny_space.npy(np.ones(8))]
    alone = harness.encode([{"text": texts[:1]}, {"text": texts[1:]}], task_metadata=named)
    rows = model.embed(text=texts, image=arrays)
    assert torch.equal(alone, rows["text"])
    both = harness.encode([{"text": texts, "align:image": arrays}], task_metadata=named, prompt_type=None)
    for i in range(2):
        total = rows["text"][i] / rows["text"][i].norm() + rows["image"][i] / rows["image"][i].norm()
        torch.testing.assert_close(both[i], total / total.norm())
    cosines = harness.similarity(alone.numpy() * 3, rows["image"])
    torch.testing.assert_close(cosines.diagonal(), harness.similarity_pairwise(alone, rows["image"]))
    torch.testing.assert_close(cosines[0, 1], torch.cosine_similarity(alone[0], rows["image"][1], dim=0))
    assert isinstance(harness, mteb.EncoderProtocol)
    assert isinstance(harness, mteb.SearchProtocol)
    assert not isinstance(harness, mteb.CrossEncoderProtocol)
    meta = harness.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.modalities) == ("me/mine", 8, ["text", "image", "audio"])
    assert meta.revision == wrap(tiny_space.model("pairwise")).mteb_model_meta.revision
    with pytest.raises(ValueError, match="how is 'cosine', 'mip' or 'objective'; got 'sum'"):
        wrap(model, how="sum")
    with pytest.raises(ValueError, match="task T: index its corpus before the search"):
        harness.search({"id": []}, task_metadata=named, top_k=1, encode_kwargs={})


def test_a_text_without_a_character_is_a_row_of_zeros(monkeypatch):
    """mteb's data have such texts, which no tower reads. They do not end the task."""
    model, blank = tiny_space.model("pairwise"), {}
    batches = [{"text": ["bbc", " \t", "dd"]}, {"text": [""]}]
    found = embed_batches(model, batches, "T", None, blank)["text"]
    known = embed_batches(model, batches, "T", {})["text"]
    read = model.embed(text=["bbc", "dd"])["text"]
    for rows in (found, known):
        assert torch.equal(rows, torch.stack([read[0], torch.zeros(8), read[1], torch.zeros(8)]))
    assert blank == {"T": 2}
    mixed = wrap(model).encode(
        [{"text": ["", "bb"], "align:image": [tiny_space.npy(np.ones(8))] * 2}], task_metadata=SimpleNamespace(name="T")
    )
    torch.testing.assert_close(mixed[0], model.embed(image=[tiny_space.npy(np.ones(8))])["image"][0])

    task = MockSTSTask()
    task.load_data()
    first = task.dataset["test"].map(
        lambda row, i: {"sentence1": "" if i == 0 else row["sentence1"]}, with_indices=True
    )
    task.dataset["test"] = first
    monkeypatch.setattr(task, "load_data", lambda *args, **options: None)
    measured = measure(wrap(model), [task], None)
    (note,) = [note for note in measured.notes if "character" in note]
    assert note == f"{task.metadata.name}: texts without a character, which no tower reads, are rows of zeros: 1"


def test_tasks_that_want_another_modality_are_named():
    from types import SimpleNamespace

    harness = wrap(tiny_space.model())
    metadata = SimpleNamespace(modalities=["video", "text"])
    assert find_missing(harness, SimpleNamespace(metadata=metadata)) == ["video"]
    assert find_missing(harness, mteb.get_task("ESC50_Zeroshot")) == []
    assert find_missing(harness, mteb.get_task("CIRRIT2IRetrieval")) == []


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    from align.checkpoint import save

    folder = tmp_path_factory.mktemp("model") / "mine"
    save(tiny_space.model("pairwise", "symile"), folder)
    return folder


def test_the_command_writes_mtebs_results(saved, shard, capsys, tmp_path):
    command = ["mteb", str(saved), "--shards", str(shard), "--allow", "tiny_space", "--only", "*+image_to_text"]
    assert main(command) == 0
    out, said = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["task", "score", "mteb", "align", "rule"]
    assert lines[1].split()[1] == "ndcg_at_10"
    assert lines[1].split()[2] == lines[1].split()[3]
    assert "task 1 of 1: " in said
    (path,) = (saved / "mteb" / "results" / "align__mine").glob("*/*image_to_text.json")
    scores = json.loads(path.read_text())["scores"]["test"][0]
    assert f"{scores['main_score']:.4f}" == lines[1].split()[2]
    assert main([*command, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    ((name, found),) = printed["tasks"].items()
    assert name.endswith("audio+image_to_text")
    assert found["ndcg_at_10"]["mteb"] == scores["ndcg_at_10"]
    assert found["ndcg_at_10"]["rule"] == "objective"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "name tasks of mteb with --tasks, or shards with --shards"),
        (["--tasks", "ESC50_Zeroshott"], 1, "Did you mean: 'ESC50_Zeroshot'"),
        (["--tasks", "ESC50_Zeroshot"], 1, "task ESC50_Zeroshot: its data cannot be loaded ("),
        (["--tasks", "STS12", "--queries", "q.jsonl"], 2, "--queries names samples of shards"),
        (["--tasks", "STS12", "--batch", "0"], 2, "--batch is 1 at least, got 0"),
        (["--tasks", "STS12", "--name", "mine"], 2, "--name 'mine' is to be of the form owner/name"),
        (["--shards", "none-*.tar"], 1, "none-*.tar"),
        (["--shards", "SHARD", "--out", "SHARD"], 1, " is a file; name a folder for the results with --out"),
        (["--shards", "SHARD", "--only", "x"], 1, "--only 'x' is none of the tasks of these shards: "),
        (["--shards", "SHARD", "--template", "a"], 1, "a template has one {} for the class name"),
        (["--shards", "SHARD", "--queries", "none.jsonl"], 1, "--queries: no file none.jsonl"),
    ],
)
def test_errors_of_the_command(saved, shard, capsys, monkeypatch, tmp_path, options, code, message):
    monkeypatch.chdir(tmp_path)
    options = [str(shard) if option == "SHARD" else option for option in options]
    assert main(["mteb", str(saved), "--allow", "tiny_space", *options]) == code
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1]


def test_a_missing_extra_is_one_line(monkeypatch, saved, capsys):
    monkeypatch.setattr("align.convert.harness.model.has_part", lambda *_: False)
    with pytest.raises(ImportError, match=r"mteb 2.26 or later is needed: pip install"):
        wrap(tiny_space.model())
    assert main(["mteb", str(saved), "--tasks", "STS12"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_names_of_convert():
    import align.convert

    assert "mteb" in dir(align.convert)
    with pytest.raises(AttributeError, match=r"has no attribute 'mtebb'; it has .*mteb"):
        align.convert.mtebb  # noqa: B018
