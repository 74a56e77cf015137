"""A vision-language decoder as a tower: rows of pictures and texts, its features against transformers' model."""

from __future__ import annotations

import base64
import io
import json

import hf_tokenizers
import numpy as np
import pytest
import torch
from fill import fill
from PIL import Image as Picture

from align.encoders import HFVisionLanguage
from align.preprocess import Interleaved
from align.values import BadSample

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
PLACES = 4  # 32 pixels in patches of 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small LLaVA with its tokenizer, as transformers saves one."""
    from transformers import AutoTokenizer, LlavaConfig, LlavaForConditionalGeneration

    from align.encoders.hf import model as hf_model

    place = tmp_path_factory.mktemp("llava")
    tokenizer = AutoTokenizer.from_pretrained(str(hf_tokenizers.llama(place / "tokenizer")))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    text = {"model_type": "llama", **SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    vision = {"model_type": "clip_vision_model", **SMALL, "image_size": 32, "patch_size": 16, "num_hidden_layers": 3}
    mark = tokenizer.convert_tokens_to_ids("<image>")
    made = LlavaConfig(text_config=text, vision_config=vision, image_token_index=mark)
    with hf_model.quiet():
        fill(LlavaForConditionalGeneration(made), 1).save_pretrained(place / "model")
        tokenizer.save_pretrained(place / "model")
    return place / "model"


def picture(seed):
    return Picture.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def png(seed):
    out = io.BytesIO()
    picture(seed).save(out, "png")
    return out.getvalue()


def make(folder, **options):
    return Interleaved(str(folder), 40, 32, PLACES, **{"pictures": 2, "instruction": "a photo"} | options)


def test_a_row_has_the_instruction_then_its_parts_in_their_order(folder):
    from transformers import AutoTokenizer

    preprocess = make(folder)
    values = preprocess.collate([preprocess.row([picture(0), "red mat", picture(1)]), preprocess.row("a cat")])
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    for i, text in enumerate(["a photo\n<image>\nred mat\n<image>", "a photo\na cat"]):
        ids = tokenizer(text)["input_ids"]
        wanted = [k for j in ids for k in [j] * (PLACES if j == preprocess.mark_id else 1)]
        real = values["attention_mask"][i].bool()
        assert values["input_ids"][i][real].tolist() == wanted
        assert real.tolist() == [True] * len(wanted) + [False] * (40 - len(wanted))
    image = preprocess._image
    for k in range(2):
        assert torch.equal(values["pixels"][0, k], image.eval(image.decode(picture(k))))
    assert not values["pixels"][1].any()
    shown = preprocess.device(values)["pixels"]
    torch.testing.assert_close(shown[0, 1], image.device(values["pixels"][0, 1][None])[0])
    assert preprocess.collate([])["pixels"].shape == (0, 2, 3, 32, 32)


def test_a_member_of_a_shard_is_a_picture_or_json(folder):
    preprocess = make(folder)
    parts = [{"text": "red mat"}, {"image": base64.b64encode(png(0)).decode()}]
    assert torch.equal(preprocess.row(json.dumps(parts).encode()), preprocess.row(["red mat", picture(0)]))
    assert torch.equal(preprocess.row(png(0)), preprocess.row([picture(0)]))


def test_features_are_those_of_transformers_model(folder):
    """Each row alone, without padding, through transformers' own model: the hidden state of the last token."""
    from transformers import LlavaForConditionalGeneration

    from align.encoders.hf import model as hf_model

    encoder = HFVisionLanguage(str(folder), pretrained=True).eval()
    preprocess = make(folder)
    rows = [["red mat", picture(0)], "two dogs playing in the snow", [picture(1), picture(2)]]
    values = preprocess.device(preprocess.collate([preprocess.row(row) for row in rows]))
    found = encoder(values)
    with hf_model.quiet():
        theirs = LlavaForConditionalGeneration.from_pretrained(str(folder)).eval().model
    for i, count in enumerate((1, 0, 2)):
        real = values["attention_mask"][i].bool()
        pixels = values["pixels"][i, :count] if count else None
        wanted = theirs(input_ids=values["input_ids"][i][real][None], pixel_values=pixels)[0][0]
        torch.testing.assert_close(found.pooled[i], wanted[-1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.tokens[i, : len(wanted)], wanted, rtol=1e-4, atol=1e-5)
    assert (encoder.width, encoder.places, encoder.size) == (32, PLACES, 32)
    assert encoder.wants()["init_args"] == {"tokenizer": str(folder), "context": 64, "size": 32, "places": PLACES}


def test_a_tower_with_its_instruction_is_saved_and_loaded(folder, tmp_path):
    import align
    from align import JointModel, Tower
    from align.heads import Linear

    encoder = HFVisionLanguage("llava", config=HFVisionLanguage(str(folder)).config)
    model = JointModel({"query": Tower(make(folder), encoder, Linear)}, 8).eval()
    align.save(model, tmp_path / "model")
    again = align.load(tmp_path / "model")
    given = [["red mat", picture(0)], picture(1)]
    torch.testing.assert_close(again.embed(query=given)["query"], model.embed(query=given)["query"])
    assert again.towers["query"].preprocess.instruction == "a photo"


def test_texts_alone_are_read_from_tokens_padded_on_either_side(folder):
    from align.preprocess import HFTokens

    encoder = HFVisionLanguage(str(folder), pretrained=True).eval()
    preprocess = make(folder)
    texts = ["a photo\nred mat", "a photo\ntwo dogs playing in the snow"]
    values = preprocess.collate([preprocess.row(text.removeprefix("a photo\n")) for text in texts])
    wanted = encoder(preprocess.device(values)).pooled
    for side in ("left", "right"):
        tokens = HFTokens(str(folder), 40, padding=side)
        found = encoder(tokens.device(tokens.collate([tokens.row(text) for text in texts]))).pooled
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_config_of_real_weights_builds(folder, tmp_path):
    """configs/ideas/hub/vlm2vec.yaml, with the small model in place of the published one."""
    from pathlib import Path

    from align.commands.config import make_parser

    path = Path(__file__).parent.parent / "configs" / "ideas" / "hub" / "vlm2vec.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith("# not run here: ")
    small = text.replace("llava-hf/llava-1.5-7b-hf", str(folder)).replace("size: 336", "size: 32")
    (tmp_path / "small.yaml").write_text(
        small.replace("places: 576", "places: 4").replace("context: 704", "context: 64")
    )
    parser = make_parser()
    made = parser.instantiate(parser.parse_args(["--config", str(tmp_path / "small.yaml"), "--run", "runs/x"]))
    towers = made.model.towers
    assert towers["text"].encoder is towers["image"].encoder
    assert made.objective.count_in() == {"image", "text"}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], "interleaved/empty"),
        ([picture(0)] * 3, "interleaved/pictures: 3 in a row, the preprocess takes 2"),
        (["so <image>"], "interleaved/mark"),
        (["word " * 40, picture(0)], "interleaved/too-long: 1 pictures of 4 tokens do not fit into 40"),
        (b'[{"image": "?"}]', "interleaved/json"),
        (b'[{"sound": "?"}]', "interleaved/json"),
    ],
)
def test_a_bad_row_has_its_reason(folder, source, says):
    with pytest.raises(BadSample, match=says):
        make(folder).row(source)


def test_a_long_text_is_cut_behind_the_last_picture(folder):
    preprocess = make(folder)
    values = preprocess.collate([preprocess.row([picture(0), "word " * 40])])
    assert values["attention_mask"].all()
    assert (values["input_ids"] == preprocess.mark_id).sum() == PLACES


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(ValueError, match="has no token '<picture>' for a picture; name its own: mark="):
        make(folder, mark="<picture>")
    with pytest.raises(ValueError, match="is of the model_type 'bert'; interleaved parts are read by llava"):
        HFVisionLanguage("x", config={"model_type": "bert"})
    encoder = HFVisionLanguage(str(folder), pretrained=True)
    preprocess = make(folder)
    values = preprocess.device(preprocess.collate([preprocess.row(picture(0))]))
    values["input_ids"][0, 0] = encoder.mark_id
    with pytest.raises(ValueError, match="a picture has 4 tokens of the id"):
        encoder(values)
