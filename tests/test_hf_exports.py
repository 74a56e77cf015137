"""Encoders of transformers export with any number of rows, and compile to one graph."""

import hf_models
import pytest
import torch

from align.encoders import HFCaption, HFImage, HFText
from align.preprocess import HFTokens

TEXTS = ["a photo of a cat", "two dogs", "rain and thunder near the old house"]


def encoders(root):
    clip, siglip = hf_models.clip(root / "clip"), hf_models.siglip(root / "siglip")
    bert, llama = (hf_models.text(root / name, name) for name in ("bert", "llama"))
    yield HFText(str(bert), pretrained=True), words(bert, 24)
    yield HFText(str(llama), pretrained=True, pooling="last", bidirectional=True), words(llama, 24)
    yield HFText(str(llama), pretrained=True, pooling="last"), words(llama, 24)
    for folder, size, context in ((clip, 40, 24), (siglip, 32, 16)):
        yield HFImage(str(folder), pretrained=True), torch.randn(3, 3, size, size)
        yield HFCaption(str(folder), pretrained=True), words(folder, context)


def words(folder, context):
    tokens = HFTokens(str(folder), context)
    return tokens.collate([tokens.row(x) for x in TEXTS])


@pytest.mark.sweep
def test_each_exports_and_compiles(tmp_path):
    for encoder, values in encoders(tmp_path):
        encoder.eval()
        wanted = encoder(values).pooled
        n = torch.export.Dim("n", min=2, max=64)
        shape = {key: {0: n} for key in values} if isinstance(values, dict) else {0: n}
        exported = torch.export.export(encoder, (values,), dynamic_shapes=(shape,)).module()
        torch.testing.assert_close(exported(values)[0], wanted, rtol=0, atol=1e-5)
        two = {key: x[:2] for key, x in values.items()} if isinstance(values, dict) else values[:2]
        torch.testing.assert_close(exported(two)[0], wanted[:2], rtol=0, atol=1e-5)
        torch._dynamo.reset()
        compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(values).pooled, wanted, rtol=0, atol=1e-5)
