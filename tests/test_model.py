"""Tower and JointModel: every tower runs on whatever rows there are; lists of raw inputs become rows in order."""

import copy
import inspect
import io
from pathlib import Path

import jsonargparse
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from align import BadSample, Batch, Features, JointModel, Rows, Tower
from align.encoders import ImageCNN, PointNet, Precomputed, SpectrogramCNN, TransformerText
from align.heads import MLP, AttentionPool, Linear
from align.model.tower import _average
from align.preprocess import Array, Audio, Bytes, Image, Points, Tokens

D = 6


def image_tower():
    return Tower(Image(16), ImageCNN(width=16, widths=(8,), stem=4))


def text_tower(head=Linear):
    return Tower(Bytes(16), TransformerText(context=16, width=16, depth=1, heads=2), head)


def made(**towers):
    torch.manual_seed(0)
    return JointModel(towers or {"image": image_tower(), "text": text_tower()}, D)


def batch_of(model, **rows):
    """B = 3 samples; rows: modality -> (list of raw inputs, list of samples)."""
    given = {}
    for name, (inputs, sample) in rows.items():
        preprocess = model.towers[name].preprocess
        values = preprocess.collate([preprocess.eval(preprocess.decode(x)) for x in inputs])
        given[name] = Rows(values, torch.tensor(sample, dtype=torch.long))
    weight, group = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, -1])
    return Batch(given, ["a", "b", "c"], torch.arange(3) + 7, [1, None, 2], ["s"] * 3, group, weight)


def pictures(n):
    draw = np.random.default_rng(0)
    return [PIL.Image.fromarray(draw.integers(0, 255, (20, 18, 3), dtype=np.uint8)) for _ in range(n)]


def test_rows_keep_their_samples_and_the_batch_what_hangs_on_it():
    model = made()
    batch = batch_of(model, text=(["a", "bb", "c"], [0, 0, 2]), image=(pictures(1), [1]))
    out = model(batch)
    assert {m: rows.values.shape for m, rows in out.items()} == {"image": (1, D), "text": (3, D)}
    assert out["text"].sample.tolist() == [0, 0, 2]
    assert (out.ids, out.labels, out.source) == (batch.ids, batch.labels, batch.source)
    assert out.position.tolist() == [7, 8, 9]
    assert torch.equal(out.group, batch.group)
    assert torch.equal(out.weight, batch.weight)
    torch.testing.assert_close(out["text"].values.norm(dim=1), torch.ones(3))
    tower = model.towers["text"]
    plain = F.normalize(tower.head(tower.encoder(batch["text"].values)), dim=-1)
    torch.testing.assert_close(out["text"].values, plain)


def test_a_tower_averages_the_windows_of_a_row():
    """A row alone is as in company, and as the mean of the features of its windows; training sees one."""
    torch.manual_seed(0)
    audio = Audio(1000, seconds=0.5, windows=3, n_fft=64, hop=32, n_mels=8)
    tower = JointModel({"audio": Tower(audio, SpectrogramCNN(width=8, n_mels=8, widths=(8,)))}, D).towers["audio"]
    waves = [torch.rand(2000, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    values = audio.collate([audio.eval(wave) for wave in waves])
    tower.eval()
    mean = torch.stack([tower.encoder(audio.device(v.reshape(3, 500))).pooled.mean(0) for v in values])
    torch.testing.assert_close(tower.features(values).pooled, mean)
    torch.testing.assert_close(tower(values)[1:], tower(values[1:]))
    assert tower(values[:0]).shape == (0, D)
    one = tower.encoder(audio.device(values[:, :500], torch.Generator().manual_seed(1))).pooled
    torch.testing.assert_close(tower.train().features(values, generator=torch.Generator().manual_seed(1)).pooled, one)


def test_tokens_of_all_windows_of_a_row_are_its_tokens():
    """(n, L, W) of (n * windows, L, W), with their mask."""
    seen = Features(torch.arange(4.0)[:, None], torch.arange(24.0).view(4, 3, 2), torch.ones(4, 3, dtype=torch.bool))
    found = _average(seen, 2)
    assert found.pooled.tolist() == [[0.5], [2.5]]
    assert torch.equal(found.tokens, torch.arange(24.0).view(2, 6, 2))
    assert found.mask.shape == (2, 6)
    assert _average(seen, 4) is seen


def test_without_normalize_the_heads_speak():
    towers = {"text": text_tower()}
    model = JointModel(towers, D, normalize=False)
    batch = batch_of(model, text=(["a"], [0]))
    torch.testing.assert_close(model(batch)["text"].values, towers["text"](batch["text"].values))


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_a_modality_without_rows_runs_and_its_gradient_is_zero(kind):
    model = made(image=image_tower(), text=text_tower(), features=Tower(Array((4,)), Precomputed(4)))
    rows = {"text": (["a", "b"], [0, 1])}
    if kind == "empty":
        rows |= {"image": ([], []), "features": ([], [])}
    out = model(batch_of(model, **rows))
    assert out["image"].values.shape == (0, D)
    assert out["image"].sample.dtype == torch.long
    sum(rows.values.square().sum() for rows in out.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert "text" in name or not parameter.grad.any(), name


def test_a_row_is_the_same_alone_and_in_company():
    model = made().double()
    inputs = pictures(5)
    together = model.embed(image=inputs)["image"]
    for i in range(5):
        torch.testing.assert_close(model.embed(image=[inputs[i]])["image"][0], together[i], rtol=1e-10, atol=1e-10)


def test_zero_features_are_zero_embeddings_with_finite_gradients():
    model = made(features=Tower(Array((4,)), Precomputed(4)))
    out = model(batch_of(model, features=([np.zeros(4, np.float32)], [0])))["features"].values
    assert not out.any()
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_floating_inputs_follow_the_encoder_and_ids_stay(dtype):
    model = made().to(dtype)
    seen = {}
    for name, tower in model.towers.items():
        tower.encoder.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].dtype}))
    out = model(batch_of(model, text=(["a"], [0]), image=(pictures(1), [0])))
    assert seen == {"image": dtype, "text": torch.int64}
    assert out["image"].values.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)


def test_dictionaries_are_cast_part_by_part():
    class Both(nn.Module):
        width = 2

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 2).double()

        def forward(self, values):
            assert values["ids"].dtype == torch.int64
            return Features(self.net(values["x"]))

    tower = Tower(Array((2,)), Both())
    tower.build(D)
    tower.head.double()
    assert tower({"x": torch.zeros(3, 2), "ids": torch.zeros(3, dtype=torch.long)}).shape == (3, D)


def test_tokens_come_with_their_mask_where_they_are_asked_for():
    model = made(text=text_tower(AttentionPool), image=image_tower())
    batch = batch_of(model, text=(["a", "bbbb"], [0, 1]))
    out = model(batch, tokens=["text", "image"])
    assert out["text"].tokens.shape == (2, 16, D)
    assert torch.equal(out["text"].mask, batch["text"].values != 0)
    assert out["image"].tokens.shape == (0, 16, D)
    assert out["image"].mask.dtype == torch.bool
    norms = out["text"].tokens.norm(dim=-1)[out["text"].mask]
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert model(batch)["text"].tokens is None
    model = made(points=Tower(Points(32), PointNet()))
    with pytest.raises(ValueError, match="PointNet gives pooled features only"):
        model(batch_of(model), tokens=["points"])


def test_the_generator_counts_in_training_only():
    model = made(audio=Tower(Audio(8000, 0.2, n_mels=16, time_mask=4), SpectrogramCNN(n_mels=16, widths=(8,))))
    seen = []
    model.towers["audio"].preprocess.device = lambda values, generator=None: (
        seen.append(generator) or torch.zeros(len(values), 1, 16, 9)
    )
    batch, generator = batch_of(model), torch.Generator()
    model(batch, generators={"audio": generator})
    model(batch)
    model.eval()(batch, generators={"audio": generator})
    assert seen == [generator, None, None]


def test_embed_takes_what_the_preprocess_reads(tmp_path):
    model = made()
    picture = pictures(1)[0]
    file = io.BytesIO()
    picture.save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    inputs = [picture, file.getvalue(), str(tmp_path / "a.png"), tmp_path / "a.png"]
    out = model.embed(image=inputs, text=["a", "b"], batch_size=3)
    torch.testing.assert_close(out["image"], out["image"][:1].expand(4, -1))
    assert out["text"].shape == (2, D)
    assert not out["text"].requires_grad
    assert model.embed(text=[])["text"].shape == (0, D)
    assert model.embed() == {}


def test_embed_leaves_every_mode_as_it_was():
    model = made()
    model.train()
    model.towers["image"].encoder.eval()
    modes = [m.training for m in model.modules()]
    model.embed(text=["a"])
    with pytest.raises(BadSample):
        model.embed(text=[""])
    assert [m.training for m in model.modules()] == modes


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"text": "a cat"}, TypeError, r"embed takes a list for each modality: text=\['a cat'\], not text='a cat'"),
        ({"image": Path("a.png")}, TypeError, r"image=\['a.png'\], not image='a.png'"),
        ({"image": pictures(1)[0]}, TypeError, r"image=\[<Image>\], not image=<Image>"),
        ({"image": b"\x89PNG"}, TypeError, r"image=\[<bytes>\], not image=<bytes>"),
        ({"image": ["nosuch.png"]}, FileNotFoundError, r"image\[0\] \('nosuch.png'\): .*nosuch.png"),
        ({"text": ["a", "b", ""]}, BadSample, r"text/empty: text\[2\] \(''\)"),
        ({"image": [*pictures(2), b"no image"]}, BadSample, r"image/.*: image\[2\] \(<bytes>\)"),
        ({"image": [None]}, TypeError, r"image\[0\] \(<NoneType>\): "),
        ({"txt": ["a"]}, ValueError, "no tower for 'txt', the model has image, text; did you mean 'text'"),
        ({"text": ["a", "b", ""], "batch_size": 2}, BadSample, r"text/empty: text\[2\] \(''\)"),
        ({"text": ["a"], "batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
    ],
)
def test_embed_says_which_input_is_no_good(inputs, error, message):
    with pytest.raises(error, match=message) as caught:
        made().embed(**inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preprocess", "encoder", "message"),
    [
        (
            Tokens(77),
            lambda: TransformerText(context=77),
            "gives vocabulary 49408, TransformerText takes vocabulary 259",
        ),
        (Bytes(64), lambda: TransformerText(context=32), "Bytes gives context 64, TransformerText takes context 32"),
        (Points(16, color=False), PointNet, "Points gives channels 3, PointNet takes channels 6"),
        (Audio(n_mels=80), SpectrogramCNN, "Audio gives n_mels 80, SpectrogramCNN takes n_mels 64"),
        (Image(28), lambda: ImageCNN(channels=1), "Image gives channels 3, ImageCNN takes channels 1"),
    ],
)
def test_a_preprocess_and_an_encoder_that_disagree_are_refused(preprocess, encoder, message):
    with pytest.raises(ValueError, match=message):
        Tower(preprocess, encoder())


def test_sizes_agree_as_numbers_or_pairs():
    encoder = nn.Identity()
    encoder.size = (28, 28)
    Tower(Image(28), encoder)
    encoder.size = (28, 32)
    with pytest.raises(ValueError, match=r"Image gives size \(28, 28\), Identity takes size \(28, 32\)"):
        Tower(Image(28), encoder)


def shared(**options):
    torch.manual_seed(0)
    return JointModel(
        {"image": image_tower(), "video": Tower(Image(16)), "text": text_tower()},
        D,
        share={"video": "image"},
        **options,
    )


def test_a_shared_encoder_is_one_and_is_stored_once():
    model = shared()
    image, video = model.towers["image"], model.towers["video"]
    assert video.encoder is image.encoder
    assert not [name for name in model.state_dict() if name.startswith("towers.video.encoder")]
    assert len({p.data_ptr() for p in model.state_dict().values()}) == len(model.state_dict())
    assert image.head is not video.head
    inputs = pictures(2)
    model.embed(video=inputs)
    out = model(batch_of(model, video=(inputs, [0, 1])))
    out["video"].values.sum().backward()
    assert any(p.grad.any() for p in image.encoder.parameters())
    image.encoder = copy.deepcopy(image.encoder)
    assert video.encoder is image.encoder  # also when the lender's is exchanged


def test_a_borrower_may_stand_before_its_lender():
    towers = {"audio": Tower(Array((4,))), "image": Tower(Array((4,)), Precomputed(4))}
    model = JointModel(towers, D, share={"audio": "image"})
    assert model.towers["audio"].encoder is model.towers["image"].encoder


def test_copies_share_among_themselves():
    model = shared()
    again = copy.deepcopy(model)
    assert again.towers["video"].encoder is again.towers["image"].encoder
    assert again.towers["video"].encoder is not model.towers["image"].encoder
    other = shared()
    other.load_state_dict(model.state_dict())
    x = pictures(1)
    torch.testing.assert_close(other.embed(video=x), model.embed(video=x))
    video = again.towers["video"]
    video.encoder = video.encoder  # its own again
    assert [name for name in video.state_dict() if name.startswith("encoder")]


def test_an_equal_encoder_may_stand_beside_share_another_may_not():
    same = {"image": image_tower(), "video": image_tower()}
    model = JointModel(same, D, share={"video": "image"})
    assert model.towers["video"].encoder is model.towers["image"].encoder
    other = {"image": image_tower(), "video": Tower(Image(16), ImageCNN(width=24, widths=(8,)))}
    with pytest.raises(
        ValueError, match=r"tower 'video': has the encoder ImageCNN\(width=24, .* it shares is ImageCNN\("
    ):
        JointModel(other, D, share={"video": "image"})


def same_twice():
    encoder = ImageCNN(widths=(8,))
    return {"a": Tower(Image(16), encoder), "b": Tower(Image(16), encoder)}


class WithoutWidth(nn.Identity):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JointModel({}, D), "at least one tower"),
        (lambda: JointModel({"image": image_tower()}, 0), "dim must be at least 1, not 0"),
        (lambda: JointModel({"a-b": image_tower()}, D), "letters, digits and underscores; 'a-b' is not"),
        (lambda: JointModel({"ä": image_tower()}, D), "letters, digits and underscores"),
        (lambda: JointModel({"": image_tower()}, D), "letters, digits and underscores"),
        (lambda: JointModel({"keys": image_tower()}, D), "cannot be named 'keys'"),
        (lambda: JointModel({"batch_size": image_tower()}, D), "cannot be named 'batch_size'"),
        (lambda: JointModel({"a": Tower(Image(16))}, D), "tower 'a': has no encoder, and 'share' gives it none"),
        (lambda: JointModel(same_twice(), D), r"tower 'b': has the encoder of 'a'; say so with share=\{'b': 'a'\}"),
        (lambda: JointModel({"a": image_tower()}, D, share={"a": "b"}), "share names 'b'; the towers are a"),
        (
            lambda: JointModel({m: Tower(Image(16)) for m in "abc"}, D, share={"a": "b", "b": "c"}),
            "'a' borrows from 'b', which borrows itself",
        ),
        (
            lambda: JointModel({"a": image_tower(), "b": Tower(Bytes(16))}, D, share={"b": "a", "a": "a"}),
            "borrows from 'a', which borrows itself",
        ),
        (
            lambda: JointModel({"a": text_tower(), "b": Tower(Bytes(32))}, D, share={"b": "a"}),
            "tower 'b': Bytes gives context 32, TransformerText takes context 16",
        ),
        (lambda: JointModel({"a": Tower(Array((2,)), WithoutWidth())}, D), "WithoutWidth needs an attribute 'width'"),
        (
            lambda: JointModel({"a": Tower(Array((2,)), Precomputed(2), Linear(2, D + 1))}, D),  # pyright: ignore
            "tower 'a': has a head of dim 7, the model's dim is 6",
        ),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_arguments_are_kept_under_their_names():
    model = shared(normalize=False)
    assert all(hasattr(model, name) for name in inspect.signature(JointModel).parameters)
    assert all(hasattr(model.towers["image"], name) for name in inspect.signature(Tower).parameters)
    assert (model.dim, model.share, model.normalize) == (D, {"video": "image"}, False)
    assert (model.modalities, model.terms) == (["image", "video", "text"], [])
    assert model.device == torch.device("cpu")
    assert isinstance(model.preprocess["text"], Bytes)


config = """
model:
  dim: 16
  share: {video: image}
  towers:
    image:
      preprocess: {class_path: align.preprocess.Image, init_args: {size: 28}}
      encoder: {class_path: align.encoders.ImageCNN, init_args: {width: 32, widths: [8, 16], stem: 2}}
      head: align.heads.Linear
    video:
      preprocess: {class_path: align.preprocess.Image, init_args: {size: 28}}
    text:
      preprocess: {class_path: align.preprocess.Bytes, init_args: {context: 32}}
      encoder: {class_path: align.encoders.TransformerText, init_args: {context: 32, width: 32, depth: 1}}
      head: {class_path: align.heads.MLP, init_args: {hidden: 24}}
"""


@pytest.fixture
def parser():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(JointModel, "model")
    return parser


@pytest.fixture
def config_file(tmp_path):
    (tmp_path / "config.yaml").write_text(config)
    return str(tmp_path / "config.yaml")


def test_a_config_is_the_transcript_of_the_call(parser, config_file):
    model = parser.instantiate(parser.parse_args(["--config", config_file])).model
    assert isinstance(model, JointModel)
    assert model.towers["video"].encoder is model.towers["image"].encoder
    assert isinstance(model.towers["text"].head, MLP)
    head = model.towers["text"].head
    assert (head.width, head.dim, head.hidden) == (32, 16, 24)
    assert isinstance(model.towers["video"].head, Linear)
    assert model.embed(text=["a"], video=pictures(1))["video"].shape == (1, 16)


def test_the_command_line_overrides_any_value(parser, config_file):
    changed = [
        *("--model.towers.image.encoder.width", "48"),
        *("--model.towers.image.encoder.init_args.stem", "4"),
        *("--model.dim", "8"),
        *("--model.towers.text.head.hidden", "40"),
    ]
    model = parser.instantiate(parser.parse_args(["--config", config_file, *changed])).model
    encoder = model.towers["image"].encoder
    assert (encoder.width, encoder.stem, encoder.widths) == (48, 4, [8, 16])
    assert (model.dim, model.towers["text"].head.hidden) == (8, 40)
    timm = ["--model.towers.image.encoder", "align.encoders.TimmImage", "--model.towers.image.encoder.name", "test_vit"]
    args = parser.parse_args(["--config", config_file, *timm])
    assert args.model.towers["image"].encoder.init_args.name == "test_vit"


@pytest.mark.parametrize("key", ["encoder.widht", "encodr.width", "head.hiden"])
def test_a_mistyped_key_is_refused(parser, config_file, key):
    with pytest.raises(jsonargparse.ArgumentError, match="is not accepted"):
        parser.parse_args(["--config", config_file, f"--model.towers.image.{key}", "48"])


def test_the_printed_config_builds_the_same_model(parser, config_file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--config", config_file, "--print_config"])
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["model"]["towers"]["image"]["encoder"]["class_path"] == "align.encoders.ImageCNN"
    (tmp_path / "printed.yaml").write_text(printed)
    models = [
        parser.instantiate(parser.parse_args(["--config", str(path)])).model
        for path in (config_file, tmp_path / "printed.yaml")
    ]
    assert str(models[0]) == str(models[1])
