"""Soups: the average is a loop over the files, the greedy soup is the paper's, and no origin or licence is lost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import align
from align.checkpoint import save
from align.commands import main
from align.files import read_json, sha256, write_json
from align.soup import check_alike, fill, find_ingredients, write_soup
from align.soup.curve import Step, measure_curve, pick_best
from align.soup.greedily import choose_greedily
from align.soup.shares import gaussian_shares
from align.values import TermInfo

ALLOW = ("--allow", "tiny")


def made(seed: int, scale: float = 10.0, bias: float = 0.0, *, dim: int = tiny.dim) -> align.JointModel:
    torch.manual_seed(seed)
    towers = {m: align.Tower(tiny.Array((6,)), tiny.Dense()) for m in tiny.modalities}
    model = align.JointModel(towers, dim)
    model.terms = [TermInfo(("image", "text"), "pairwise", scale, bias), TermInfo(("audio", "text"), "pairwise", 5.0)]
    return model.eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("soup")
    for seed, (scale, bias) in enumerate([(10.0, 0.0), (40.0, -2.0), (2.5, 4.0)]):
        save(made(seed, scale, bias), folder / "abc"[seed])
    tiny.write(folder / "in", "test", 16, missing=0.1)
    tiny.write(folder / "out", "test", 24, missing=0.1)
    return folder


def find(*folders: Path):
    return find_ingredients([str(folder) for folder in folders], lambda model, step: Path(model))


def by_hand(folders: list[Path], shares: list[float]) -> dict[str, torch.Tensor]:
    """The average, tensor by tensor and number by number, the long way."""
    files = [load_file(folder / "model.safetensors") for folder in folders]
    out = {}
    for name, first in files[0].items():
        values = [
            sum(share * float(file[name].flatten()[i]) for share, file in zip(shares, files, strict=True))
            for i in range(first.numel())
        ]
        out[name] = torch.tensor(values, dtype=torch.float64).reshape(first.shape).to(first.dtype)
    return out


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


@pytest.mark.parametrize("shares", [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
def test_the_average_is_a_loop(place, tmp_path, shares):
    folders = [place / name for name in "abc"]
    write_soup(find(*folders), shares, tmp_path, "weights")
    soup = load_file(tmp_path / "model.safetensors")
    wanted = by_hand(folders, shares)
    assert all(torch.allclose(x, wanted[name], rtol=1e-6, atol=1e-8) for name, x in soup.items())
    if shares[1] == 1:
        assert (tmp_path / "model.safetensors").read_bytes() == (place / "b" / "model.safetensors").read_bytes()
    model = align.load(tmp_path, allow=("tiny",))
    assert equal(dict(model.state_dict()), soup)
    filled = align.load(place / "a", allow=("tiny",))
    fill(filled, find(*folders), shares)
    assert equal(dict(filled.state_dict()), soup)
    assert filled.terms == model.terms


def test_scales_are_averaged_as_logarithms_and_biases_as_they_are(place, tmp_path):
    write_soup(find(place / "a", place / "b", place / "c"), [0.5, 0.25, 0.25], tmp_path, "weights")
    first, second = align.load(tmp_path, allow=("tiny",)).terms
    assert first.scale == pytest.approx(math.exp((2 * math.log(10) + math.log(40) + math.log(2.5)) / 4))
    assert first.bias == pytest.approx((0 * 2 - 2 + 4) / 4)
    assert (second.scale, second.bias) == (5.0, 0.0)


def test_the_model_names_what_it_is_made_of(place, tmp_path):
    write_soup(find(place / "a", place / "b"), [0.75, 0.25], tmp_path, "weights")
    about = read_json(tmp_path / "model.json")
    assert about["sha256"] == sha256(tmp_path / "model.safetensors")
    assert about["soup"] == {
        "how": "weights",
        "of": [
            {"model": str(place / name), "sha256": read_json(place / name / "model.json")["sha256"], "weight": weight}
            for name, weight in (("a", 0.75), ("b", 0.25))
        ],
    }


def altered(source: Path, folder: Path, change) -> Path:
    """A copy of a model folder with other tensors."""
    folder.mkdir()
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.yaml").write_text((source / "config.yaml").read_text())
    about = read_json(source / "model.json")
    write_json(folder / "model.json", {**about, "sha256": sha256(folder / "model.safetensors")})
    return folder


def test_whole_numbers_are_equal_or_refused_and_counters_are_the_largest(place, tmp_path):
    def with_buffers(count: int, batches: int):
        return lambda tensors: tensors.update(
            {"n": torch.tensor(count), "norm.num_batches_tracked": torch.tensor(batches)}
        )

    a = altered(place / "a", tmp_path / "a", with_buffers(3, 10))
    b = altered(place / "b", tmp_path / "b", with_buffers(3, 7))
    (tmp_path / "out").mkdir()
    write_soup(find(b, a), [0.5, 0.5], tmp_path / "out", "uniform")
    soup = load_file(tmp_path / "out" / "model.safetensors")
    assert (int(soup["n"]), int(soup["norm.num_batches_tracked"])) == (3, 10)
    c = altered(place / "c", tmp_path / "c", with_buffers(4, 7))
    with pytest.raises(ValueError, match=r"a and .*c have other whole numbers in n, which have no average"):
        write_soup(find(a, c), [0.5, 0.5], tmp_path / "out", "uniform")


def test_two_architectures_are_refused_by_their_first_difference(place, tmp_path):
    save(made(0, dim=8), tmp_path / "wide")
    with pytest.raises(ValueError, match=r"a and .*wide differ: dim is 4, not 8"):
        check_alike(find(place / "a", tmp_path / "wide"))
    more = altered(place / "b", tmp_path / "more", lambda tensors: tensors.update({"extra": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"differ: only .*more has the weight extra"):
        check_alike(find(place / "a", more))
    name = "towers.image.head.project.weight"
    long = altered(place / "b", tmp_path / "long", lambda tensors: tensors.update({name: torch.zeros(2, 2)}))
    with pytest.raises(ValueError, match=r"head.project.weight has the shape \(4, 6\), not \(2, 2\)"):
        check_alike(find(place / "a", long))


def test_a_damaged_model_and_one_named_twice_are_refused(place, tmp_path):
    with pytest.raises(ValueError, match="are one model; name each a single time"):
        find(place / "a", place / "a")
    with pytest.raises(ValueError, match="a soup has two models at least"):
        find(place / "a")
    bad = altered(place / "a", tmp_path / "bad", lambda tensors: None)
    data = bytearray((bad / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (bad / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: its SHA-256"):
        find(place / "b", bad)


def facts(place: Path, tmp_path: Path, **entries):
    """Two models whose model.json have more entries, written to a soup. name -> (of the first, of the second)."""
    found = find(place / "a", place / "b")
    found = [one._replace(about={**one.about, **{k: v[i] for k, v in entries.items()}}) for i, one in enumerate(found)]
    lines = write_soup(found, [0.5, 0.5], tmp_path, "uniform")
    return read_json(tmp_path / "model.json"), lines


def test_origins_and_licences_are_kept(place, tmp_path):
    one = {"source": "hub/one", "sha256": "a" * 64, "licence": "mit", "changed": False}
    other = {"source": "hub/two", "sha256": "b" * 64, "licence": "cc-by-nc-4.0", "changed": True}
    about, _ = facts(place, tmp_path, parts=({"image.encoder": one}, {"image.encoder": one}))
    assert about["parts"] == {"image.encoder": {**one, "changed": True}}  # the encoders have other weights
    about, _ = facts(place, tmp_path, parts=({"image.encoder": one}, {"image.encoder": other}))
    part = about["parts"]["image.encoder"]
    assert (part["source"], part["licence"]) == ("hub/one + hub/two", "mit + cc-by-nc-4.0")
    assert part["changed"]
    assert align.load(tmp_path, allow=("tiny",))


def test_equal_encoders_stay_the_published_ones(place, tmp_path):
    one = {"source": "hub/one", "sha256": "a" * 64, "licence": "mit", "changed": False}
    encoder = {k: x for k, x in load_file(place / "a" / "model.safetensors").items() if "image.encoder" in k}
    same = altered(place / "b", tmp_path / "same", lambda tensors: tensors.update(encoder))
    found = [x._replace(about={**x.about, "parts": {"image.encoder": one}}) for x in find(place / "a", same)]
    (tmp_path / "out").mkdir()
    write_soup(found, [0.3, 0.7], tmp_path / "out", "weights")
    assert read_json(tmp_path / "out" / "model.json")["parts"] == {"image.encoder": one}
    soup = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(soup[name], x) for name, x in encoder.items())


def test_terms_and_heads_that_do_not_fit_together(place, tmp_path):
    terms = read_json(place / "a" / "model.json")["terms"]
    about, lines = facts(place, tmp_path, terms=(terms, terms[:1]))
    assert [term["modalities"] for term in about["terms"]] == [["image", "text"]]
    assert lines == ["not all models have the term pairwise of audio, text: the soup has none"]
    head = {"model": "m", "sha256": "", "modality": "image", "weights": "1", "preprocess": "2", "column": {}}
    about, _ = facts(place, tmp_path, heads=({"image": head}, {"image": {**head, "model": "elsewhere"}}))
    assert about["heads"] == {"image": head}
    with pytest.raises(ValueError, match="have heads of image that were fitted on the features of two towers"):
        facts(place, tmp_path, heads=({"image": head}, {"image": {**head, "weights": "3"}}))


def test_a_run_s_checkpoints_are_its_ingredients(place, tmp_path):
    for step in (10, 20, 30):
        save(made(step), tmp_path / "run" / "checkpoints" / f"step-{step:08d}")
    save(made(30), tmp_path / "run" / "checkpoints" / "step-00000030-backup")  # a person's copy is none of them
    write_json(tmp_path / "run" / "checkpoints" / "index.json", {"last": "step-00000030", "best": "step-00000010"})
    run, asked = str(tmp_path / "run"), []

    def locate(model, step):
        asked.append((Path(model).name, step))
        return Path(model) / "checkpoints" / f"step-{int(step):08d}"

    assert [one.name for one in find_ingredients([run], locate, ["10", "30"])] == [f"{run}@10", f"{run}@30"]
    assert len(find_ingredients([run], locate, ["all"])) == 3
    assert len(find_ingredients([f"{run}@10", f"{run}@20"], locate)) == 2
    assert asked[-1] == ("run", "20")
    with pytest.raises(ValueError, match="steps of one run"):
        find_ingredients([run, run], locate, ["10"])
    out = tmp_path / "soup"
    assert main(["soup", run, "--checkpoints", "10,20", "--out", str(out), *ALLOW]) == 0
    assert equal(load_file(out / "model.safetensors"), by_eye(tmp_path / "run", 10, 20))


def by_eye(run: Path, *steps: int) -> dict[str, torch.Tensor]:
    one, two = (load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors") for step in steps)
    return {name: ((x.double() + two[name].double()) / 2).float() for name, x in one.items()}


SCORES = {(0,): 0.5, (1,): 0.7, (2,): 0.6, (1, 2): 0.7, (0, 1, 2): 0.65, (0, 1): 0.9}


def test_the_greedy_soup_is_the_paper_s():
    """Sorted by their own score, each comes in where the soup's score does not fall; (0, 1) is never tried."""
    asked = []

    def measure(shares):
        taken = tuple(i for i, share in enumerate(shares) if share)
        assert all(share in (0, 1 / len(taken)) for share in shares)
        asked.append(taken)
        return SCORES[taken]

    shares, trials = choose_greedily(3, measure)
    assert asked == [(0,), (1,), (2,), (1, 2), (0, 1, 2)]
    assert shares == [0, 0.5, 0.5]
    assert [(t.model, t.alone, t.together, t.taken) for t in trials] == [
        (1, 0.7, 0.7, True),
        (2, 0.6, 0.7, True),
        (0, 0.5, 0.65, False),
    ]


def test_the_curve_takes_the_best_point_and_of_equal_ones_the_middle():
    seen = []
    steps = measure_curve([1, 0, 0.5, 0.5], lambda shares: seen.append(shares) or {"a": {"s": float(shares[0] < 1)}})
    assert seen == [[1, 0], [0.5, 0.5], [0, 1]]
    assert [step.alpha for step in steps] == [0, 0.5, 1]
    assert pick_best(steps, lambda scores: scores["a"]["s"]).alpha == 0.5
    assert pick_best([Step(0, {}), Step(1, {})], lambda scores: 0.0).alpha == 0
    with pytest.raises(ValueError, match="a share of the second model, from 0 to 1; got 2"):
        measure_curve([2], lambda shares: {})


class Gain:
    """An evaluator whose score can be computed by hand: the mean of all weights of the image's encoder."""

    name = "gain"

    def run(self, space):
        from align.evaluation import Findings

        weight = torch.cat([p.detach().flatten() for p in space.model.towers["image"].encoder.parameters()])
        return Findings({"gain/accuracy": float(weight.double().mean()) + len(space.shards), "gain/other": 1.0})


def mean_gain(folder: Path) -> float:
    x = [t.flatten() for name, t in load_file(folder / "model.safetensors").items() if "image.encoder" in name]
    return float(torch.cat(x).double().mean())


def soup(place: Path, out: Path, *args) -> dict:
    assert main(["soup", *map(str, args), "--out", str(out), *ALLOW]) == 0
    return json.loads((out / "soup.json").read_text())


SETS = ("--with", "test_soup.Gain")


def test_the_command_draws_the_curve_over_two_sets(place, tmp_path, capsys):
    a, b = place / "a", place / "b"
    sets = ("--shards", f"{place}/in/test-*.tar", "--shards", f"ood={place}/out/test-*.tar")
    about = soup(place, tmp_path / "s", a, b, "--alpha", "0,0.25,0.5,0.75,1", *sets, *SETS)
    table = capsys.readouterr().out
    gains = {alpha: (1 - alpha) * mean_gain(a) + alpha * mean_gain(b) for alpha in (0, 0.25, 0.5, 0.75, 1)}
    for point in about["curve"]:
        assert point["scores"]["in"]["gain/accuracy"] == pytest.approx(gains[point["alpha"]] + 16, abs=1e-6)
        assert point["scores"]["ood"]["gain/accuracy"] == pytest.approx(gains[point["alpha"]] + 24, abs=1e-6)
        assert list(point["scores"]["in"]) == ["gain/accuracy"]
    best = max(gains, key=lambda alpha: gains[alpha])
    assert about["alpha"] == best
    assert [one["weight"] for one in about["of"]] == [1 - best, best]
    assert f"{best:g} (chosen)" in table
    assert "ood: gain/accuracy" in table
    page = (tmp_path / "s" / "soup.html").read_text()
    assert "Interpolation" in page
    assert "ood against in" in page
    kept = read_json(tmp_path / "s" / "model.json")
    assert (about["model"], about["device"], about["dtype"]) == (kept["sha256"], "cpu", "float32")


def test_the_command_cooks_greedily_and_uniformly(place, tmp_path, capsys):
    models = [place / name for name in "abc"]
    shards = ("--shards", f"{place}/in/test-*.tar", *SETS, "--score", "gain/accuracy")
    about = soup(place, tmp_path / "greedy", *models, "--greedy", *shards)
    gains = [mean_gain(model) for model in models]
    best = max(range(3), key=lambda i: gains[i])
    assert about["trials"][0]["model"] == str(models[best])
    assert [bool(one["weight"]) for one in about["of"]] == [i == best for i in range(3)]  # an average is below the best
    about = soup(place, tmp_path / "mean", *models, *shards)
    assert about["scores"]["in"]["gain/accuracy"] == pytest.approx(sum(gains) / 3 + 16, abs=1e-6)
    assert about["alone"][str(models[1])]["in"]["gain/accuracy"] == pytest.approx(gains[1] + 16, abs=1e-6)
    assert "soup" in capsys.readouterr().out
    model = align.load(tmp_path / "mean", allow=("tiny",))
    assert model.embed(image=[torch.ones(6).numpy()])["image"].shape == (1, tiny.dim)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a", "b", "--greedy"], 2, "--greedy chooses by a score; name held-out shards with --shards"),
        (["a", "b", "--alpha", "0,1"], 2, "--alpha chooses by a score"),
        (["a", "b", "--alpha", "0,2"], 2, "from 0 to 1; got 0,2"),
        (["a", "b", "--alpha", ""], 2, "from 0 to 1; got nothing"),
        (["a", "b", "c", "--alpha", "0.5"], 2, "from one model to another; 3 are named"),
        (["a", "b", "--weights", "0.5,0.6"], 2, "sum to 1; got 0.5,0.6 for 2 models"),
        (["a", "b", "--weights", "0.5,x"], 2, "--weights takes numbers with commas"),
        (["a", "b", "--gaussian", "1"], 2, "--gaussian is a mean and a spread above 0, such as 15,2; got 1"),
        (["a", "b", "--gaussian", "1,0"], 2, "such as 15,2; got 1,0"),
        (["a", "b", "--gaussian", "1,1", "--greedy"], 2, "--gaussian and --greedy both say"),
        (["a", "b", "--weights", "1", "--greedy"], 2, "--weights and --greedy both say"),
        (["a", "b", "--score", "x"], 2, "--score is of the scores on held-out shards"),
        (["a"], 1, "a soup has two models at least; got 1: a"),
        (["a", "nowhere"], 1, "no model folder"),
        (["a", "b", "--shards", "in/test-*.tar", "--with", "zerosho"], 2, "--with: no evaluator"),
        (["a", "b", "--shards", "in/test-*.tar", *SETS, "--score", "nothing"], 1, "give no score nothing"),
        (["a", "b", "--shards", "in/test-*.tar", "--shards", "x/in/t.tar"], 2, "two --shards are named 'in'"),
        (["a", "b", "--device", "cuda:7", "--shards", "in/test-*.tar"], 2, "this machine has no device 'cuda:7'"),
    ],
)
def test_command_lines_that_cannot_be_meant(place, tmp_path, monkeypatch, capsys, args, code, message):
    monkeypatch.chdir(place)
    assert main(["soup", *args, "--out", str(tmp_path / "s"), *ALLOW]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_folder_with_other_things_is_not_replaced(place, tmp_path, capsys):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("mine")
    assert main(["soup", str(place / "a"), str(place / "b"), "--out", str(tmp_path / "s"), *ALLOW]) == 1
    assert "is no model folder" in capsys.readouterr().err
    assert (tmp_path / "s" / "thesis.tex").read_text() == "mine"


def test_memory_holds_no_whole_model(tmp_path, monkeypatch):
    """Of each file one tensor at a time is read, and it is gone before the next."""
    import gc
    import weakref

    import safetensors

    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        save_file({f"layer{i}": torch.randn(64, 64) for i in range(20)}, folder / "model.safetensors")
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    opened = safetensors.safe_open

    class Watched:
        def __init__(self, path, framework):
            self.file = opened(path, framework)

        def __enter__(self):
            self.inside = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def get_tensor(self, name):
            nonlocal most
            x = self.inside.get_tensor(name)
            gc.collect(0)
            alive[:] = [*(ref for ref in alive if ref() is not None), weakref.ref(x)]
            most = max(most, len(alive))
            return x

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    from align.soup.write import _write_tensors

    pair = [SimpleNamespace(name=name, weights=tmp_path / name / "model.safetensors") for name in "ab"]
    _write_tensors(pair, [0.5, 0.5], tmp_path / "soup.safetensors")  # pyright: ignore[reportArgumentType]
    assert most <= 4  # the first's, the other's, and those of the layer before


def test_shares_along_a_bell_curve():
    heights = [math.exp(-((i - 3) ** 2) / (2 * 1.5**2)) for i in (1, 2, 3, 4)]
    assert gaussian_shares(4, 3, 1.5) == pytest.approx([height / sum(heights) for height in heights])
