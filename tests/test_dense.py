"""Dense maps: each place through the head, three last attentions against loops, and what is refused in one line."""

import json

import pytest
import torch
import torch.nn.functional as F
from test_encoders import configs
from torch import nn

from align import JointModel, Tower
from align.encoders import HFImage, ImageCNN, OpenClipImage, PointNet, PointTransformer, TimmImage, TransformerText
from align.encoders.last_attention import with_last_attention
from align.heads import AttentionPool, Linear, Resampler
from align.model.dense import read_dense
from align.preprocess import Bytes, Image, Points
from align.scoring.maps import contrast, enlarge, heat, pool_masks

pytestmark = pytest.mark.usefixtures("tiny_clip")


def picture_model(encoder=None, head=Linear):
    torch.manual_seed(0)
    encoder = encoder or ImageCNN(width=24, widths=(8, 16), stem=4)
    return JointModel({"image": Tower(Image(32), encoder, head)}, 5)


def pictures(n):
    return list(torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8).numpy())


@pytest.mark.parametrize("head", [Linear, AttentionPool])
def test_a_place_is_its_token_through_the_head(head):
    model, given = picture_model(head=head), pictures(3)
    got = model.dense(image=given, batch_size=2)
    tower = model.towers["image"].eval()
    with torch.no_grad():
        x = tower.preprocess.collate([tower.preprocess.row(one) for one in given])
        tokens = tower.features(x).tokens  # (3, 16, W)
        assert got.shape == (3, 4, 4, 5)
        for i in range(3):
            for row in range(4):
                for column in range(4):
                    token = tokens[i, 4 * row + column]
                    want = tower.head(type(tower.features(x))(token[None], token[None, None]))[0]
                    torch.testing.assert_close(got[i, row, column], want / want.norm(), rtol=1e-4, atol=1e-5)


def test_a_map_is_as_high_and_wide_as_its_picture():
    torch.manual_seed(0)
    encoder = ImageCNN(width=24, widths=(8,), stem=4)
    model = JointModel({"image": Tower(Image((16, 32)), encoder, Linear)}, 5)
    given = torch.zeros(16, 32, 3, dtype=torch.uint8)
    before = model.dense(image=[given.numpy()])
    given[8, 20] = 255  # the middle of the kernel of row 2, column 5
    change = (model.dense(image=[given.numpy()]) - before).norm(dim=-1)[0]
    assert change.shape == (4, 8)
    assert divmod(int(change.argmax()), 8) == (2, 5)


def test_training_goes_on_and_no_rows_give_an_empty_map():
    model = picture_model().train()
    assert model.dense(image=[]).shape == (0, 4, 4, 5)
    assert model.training
    assert model.towers["image"].encoder.training
    assert not model.dense(image=pictures(1)).requires_grad


def test_points_have_a_vector_each_in_the_towers_order():
    torch.manual_seed(0)
    for encoder in (PointNet(width=8, hidden=(8, 16)), PointTransformer(6, 8, 1, 2, groups=4, neighbours=3)):
        model = JointModel({"points": Tower(Points(10, preset="absolute"), encoder, Linear)}, 5)
        clouds = [torch.rand(20, 6).numpy() for _ in range(2)]
        got, order = model.dense(points=clouds), model.towers["points"].preprocess.order(20)
        assert got.shape == (2, 10, 5)
        assert model.dense(points=[]).shape == (0, 10, 5)
        if isinstance(encoder, PointNet):
            alone = model.embed(points=[clouds[1][order[7]][None]])["points"]
            torch.testing.assert_close(got[1, 7], alone[0])


def mean_of(kind, q, k, v):
    """One token's attention to all, over the heads, in a loop. q, k, v: (L, heads, d)."""
    if kind == "value":
        return v.flatten(1)
    out = torch.zeros_like(v)
    for h in range(v.shape[1]):
        for i in range(v.shape[0]):
            for side in (q, k):
                scores = torch.stack([side[i, h] @ side[j, h] for j in range(len(v))]) / v.shape[2] ** 0.5
                out[i, h] += torch.softmax(scores, 0) @ v[:, h]
    return out.flatten(1)


def loop(kind, x, weight, bias, heads):
    """(n, L, W) of a fused projection of queries, keys and values, before the last projection."""
    parts = [F.linear(row, weight, bias).chunk(3, -1) for row in x]
    return torch.stack([mean_of(kind, *(p.unflatten(-1, (heads, -1)) for p in three)) for three in parts])


def of_timm(attn, kind):
    return attn, lambda x: attn.proj(loop(kind, x, attn.qkv.weight, attn.qkv.bias, attn.num_heads))


def of_torch(attn, kind):
    make = loop
    return attn, lambda x: (attn.out_proj(make(kind, x, attn.in_proj_weight, attn.in_proj_bias, attn.num_heads)), None)


def of_transformers(attn, kind):
    three = attn.q_proj, attn.k_proj, attn.v_proj
    weight, bias = torch.cat([p.weight for p in three]), torch.cat([p.bias for p in three])
    return attn, lambda x: (attn.out_proj(loop(kind, x, weight, bias, attn.num_heads)), None)


towers = {
    "timm": (lambda: TimmImage("test_vit", size=32), lambda e: e.model.blocks[-1].attn, of_timm),
    "open_clip": (
        lambda: OpenClipImage("align-tiny"),
        lambda e: e.visual.transformer.resblocks[-1].attn,
        of_torch,
    ),
    "transformers": (
        lambda: HFImage("siglip", config=configs["siglip"]),
        lambda e: e.model.vision_model.encoder.layers[-1].self_attn,
        of_transformers,
    ),
}


@pytest.mark.parametrize("name", ["timm", "open_clip", pytest.param("transformers", marks=pytest.mark.sweep)])
@pytest.mark.parametrize("kind", ["value", "self"])
def test_the_last_attention_is_that_of_a_loop(name, kind):
    make, find, plain = towers[name]
    torch.manual_seed(0)
    encoder, x = make().double().eval(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = encoder(x)
    got = with_last_attention(encoder, kind)(x)
    assert torch.equal(encoder(x).tokens, before.tokens)  # the encoder is as it was
    assert not torch.allclose(got.tokens, before.tokens)
    module, attend = plain(find(encoder), kind)
    hook = module.register_forward_hook(
        lambda _, args, kwargs, __: attend(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    want = encoder(x).tokens
    hook.remove()
    torch.testing.assert_close(got.tokens, want)


@pytest.mark.parametrize("kind", ["value", "self"])
def test_the_last_block_of_ours_is_that_of_a_loop(kind):
    torch.manual_seed(0)
    encoder = TransformerText(90, 6, width=8, depth=2, heads=2).double().eval()
    ids = torch.tensor([[3, 7, 9, 4, 5, 8], [6, 2, 5, 0, 0, 0]])
    got = with_last_attention(encoder, kind)(ids).tokens
    block, stated = encoder.blocks[-1], []
    block.qkv.register_forward_hook(lambda _, __, out: stated.append(out))

    def attend(_, __):
        rows = []
        for i, real in enumerate((6, 3)):
            q, k, v = (p.unflatten(-1, (2, -1))[:real] for p in stated[0][i].chunk(3, -1))
            rows.append(F.pad(mean_of(kind, q, k, v), (0, 0, 0, 6 - real)))
        return (torch.stack(rows),)

    block.out.register_forward_pre_hook(attend)
    want = encoder(ids).tokens
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(got[1, :3], want[1, :3])


def test_a_model_takes_the_attention_by_name():
    model, given = picture_model(TimmImage("test_vit", size=32)), pictures(2)
    maps = {kind: model.dense(kind, image=given) for kind in ("plain", "value", "self")}
    assert {tuple(m.shape) for m in maps.values()} == {(2, 2, 2, 5)}
    assert len({round(float(m.double().sum()), 6) for m in maps.values()}) == 3
    torch.testing.assert_close(maps["plain"].norm(dim=-1), torch.ones(2, 2, 2))


class Bare(nn.Module):
    """An encoder of someone else's."""

    def __init__(self, grid=None, tokens=True):
        super().__init__()
        self.width, self.grid_start, self.net, self.tokens = 4, 1, nn.Linear(3, 4), tokens
        self.grid = grid

    def forward(self, x):
        from align import Features

        cells = self.net(F.adaptive_avg_pool2d(x, 2).flatten(2).mT)
        front = torch.cat([cells.new_full((len(x), 1, 4), 7.0), cells], 1)
        return Features(cells.mean(1), front if self.tokens else None)


def test_an_encoder_of_another_states_its_grid_and_the_tokens_in_front():
    model = picture_model(Bare((2, 2)))
    tower, given = model.towers["image"], pictures(1)
    with torch.no_grad():
        x = tower.preprocess.collate([tower.preprocess.row(given[0])])
        want = tower.head.project(tower.encoder(tower.ready(x)).tokens[0, 1:])
    torch.testing.assert_close(model.dense(image=given)[0].flatten(0, 1), F.normalize(want, dim=-1))


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: picture_model(Bare()), {}, "tower 'image': Bare gives tokens without a grid for these rows"),
        (lambda: picture_model(Bare((2, 2), False)), {}, "Bare gives no tokens for these rows"),
        (lambda: picture_model(Bare((2, 3))), {}, "Bare states a grid of 2 x 3, and gives 4 tokens"),
        (picture_model, {"attention": "value"}, "attention='value' changes the last block of a vision transformer"),
        (picture_model, {"attention": "clear"}, "attention='clear' is not known; it may be 'plain', 'value', 'self'"),
        (picture_model, {"batch_size": 0}, "batch_size must be at least 1, not 0"),
        (lambda: picture_model(head=Resampler), {}, "the head Resampler chooses its tokens"),
    ],
)
def test_what_has_no_dense_map_is_refused_in_one_line(model, arguments, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        model().dense(**arguments, image=pictures(1))
    assert "\n" not in str(error.value)


def test_words_have_no_dense_map_and_one_modality_is_asked():
    text = Tower(Bytes(12), TransformerText(259, 12, width=8, depth=1, heads=2), Linear)
    model = JointModel({"text": text}, 4)
    with pytest.raises(ValueError, match="TransformerText gives tokens without a grid"):
        model.dense(text=["a cat"])
    for inputs in ({}, {"text": [], "image": []}):
        with pytest.raises(TypeError, match="dense takes one modality"):
            model.dense(**inputs)
    with pytest.raises(ValueError, match="no tower for 'images', the model has text"):
        model.dense(images=["a.png"])


def test_heat_is_the_cosine_of_each_place():
    torch.manual_seed(0)
    dense, vectors = F.normalize(torch.randn(2, 3, 4, 5), dim=-1), 3 * torch.randn(6, 5)
    got = heat(dense, vectors)
    for i in range(2):
        for c in range(6):
            for y in range(3):
                for x in range(4):
                    want = dense[i, y, x] @ vectors[c] / vectors[c].norm()
                    torch.testing.assert_close(got[i, c, y, x], want)
    assert heat(dense.flatten(1, 2), vectors).shape == (2, 6, 12)
    assert enlarge(got, (9, 8)).shape == (2, 6, 9, 8)


def test_a_region_is_the_mean_of_the_places_in_its_mask():
    torch.manual_seed(0)
    dense = F.normalize(torch.randn(2, 2, 3, 5), dim=-1)
    masks = torch.rand(2, 4, 8, 12) < 0.4
    masks[1, 2] = False
    got = pool_masks(dense, masks)
    for i in range(2):
        for r in range(4):
            total = torch.zeros(5)
            for y in range(8):
                for x in range(12):
                    total += dense[i, y // 4, x // 4] * masks[i, r, y, x]
            want = total / total.norm() if masks[i, r].any() else total
            torch.testing.assert_close(got[i, r], want)
    flat = pool_masks(dense.flatten(1, 2), torch.eye(6).expand(2, 6, 6).bool())
    torch.testing.assert_close(flat, dense.flatten(1, 2))
    with pytest.raises(ValueError, match=r"do not fit; \(n, H, W, D\) takes \(n, R, h, w\)"):
        pool_masks(dense, masks[:1])
    with pytest.raises(ValueError, match="do not fit"):
        pool_masks(dense.flatten(1, 2), masks[:, :, 0, :5])


def test_a_pair_of_prompts_makes_a_share_of_each_place():
    torch.manual_seed(0)
    dense = F.normalize(torch.randn(1, 2, 2, 5), dim=-1)
    normal, abnormal = torch.randn(3, 5), torch.randn(2, 5)
    got = contrast(dense, normal, abnormal, 10.0)
    sides = [sum(v / v.norm() for v in side) for side in (normal, abnormal)]
    for y in range(2):
        for x in range(2):
            a, b = (float((10 * dense[0, y, x] @ side / side.norm()).exp()) for side in sides)
            assert abs(float(got[0, y, x]) - b / (a + b)) < 1e-5


def test_windows_have_no_one_map():
    class Windows(Image):
        def device(self, values, generator=None):
            return super().device(values, generator).repeat_interleave(2, 0)

    tower = Tower(Windows(32), ImageCNN(width=8, widths=(8,)), Linear)
    tower.build(4)
    with pytest.raises(ValueError, match="1 rows have 2 windows; a dense map is of rows of one window each"):
        read_dense(tower, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_a_saved_model_has_the_same_maps(tmp_path):
    import align

    model, given = picture_model(), pictures(2)
    align.save(model, tmp_path / "model")
    assert torch.equal(align.load(tmp_path / "model").dense(image=given), model.dense(image=given))
    json.loads((tmp_path / "model/model.json").read_text())
