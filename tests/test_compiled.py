"""Every encoder and head, compiled without a graph break and exported with any number of rows, gives eager's values."""

from __future__ import annotations

import pytest
import torch
from few import few
from test_encoders import cases, checkpointed
from test_heads import every as every_head
from test_heads import features
from torch import nn

from align import Features, JointModel, Tower
from align.encoders import ImageCNN, PointNet, SpectrogramCNN, TransformerText
from align.heads import MLP, AttentionPool
from align.preprocess import Audio, Bytes, Image, Points

pytestmark = pytest.mark.usefixtures("tiny_clip")
exempt: dict[str, str] = {
    "Layered": "it puts other lists of blocks into a copy of the encoder, as one graph forbids",
    "PromptTokens": "it puts blocks around blocks into a copy of the encoder, as one graph forbids",
    "HFVisionLanguage": "its values are a dict of three tensors, and pictures stand only where rows have some",
}
"""Name of a case, or of its class -> the reason why its library forbids one graph."""
tested = {name: case for name, case in cases.items() if not exempt.keys() & {name, name.partition("-")[0]}}


class Called(nn.Module):
    """A head that takes the parts of features apart, since a graph's inputs are tensors."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, pooled, tokens, mask):
        return self.head(Features(pooled, tokens, mask), tokens=True)


def compare(found, wanted):
    found, wanted = ((x,) if isinstance(x, torch.Tensor) else x for x in (found, wanted))
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def export(module, rows, strict):
    """The module's graph, traced with two rows. rows: n -> its arguments. strict: by dynamo, else by running Python."""
    n = torch.export.Dim("n", min=1)
    shapes = tuple({0: n} for _ in rows(2))
    return torch.export.export(module, rows(2), dynamic_shapes=shapes, strict=strict).module()


def compiled(module):
    torch.compiler.reset()
    return torch.compile(module, backend="aot_eager", fullgraph=True)


def made(name):
    """(encoder, n -> its arguments) of a case."""
    make, values = tested[name]
    torch.manual_seed(0)
    return make().double().eval(), lambda n: (values(n),)


@torch.no_grad()
def run(graph, module, rows, counts):
    for n in counts:
        given = rows(n)
        compare(graph(*given), module(*given))


libraries = ("OpenClip", "Timm", "SpectrogramViT", "HF", "CLAP", "PEAV", "Torchaudio")
ported = ("HTSAT", "ImageBind", "PointBERT", "PointNet2", "Uni3D")
slower = (*libraries, *ported)  # to trace: these are compiled in the sweep alone
first = {name.partition("-")[0]: name for name in reversed(tested)}.values()  # of each class
rare = ("HTSAT", "HFAudio", "HFImage", "Torchaudio", "PEAV", "ImageBind", "PointBERT", "Uni3D")  # a second each
names = [
    pytest.param(name, marks=[] if name in first and not name.startswith(rare) else pytest.mark.sweep)
    for name in tested
]
every_encoder = pytest.mark.parametrize("name", names)
ours = [p for p in names if not str(p.values[0]).startswith(slower)]
each_of_ours = pytest.mark.parametrize(
    "name",
    few(ours, 3),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", few(names, 6))
def test_an_encoder_is_exported(name):
    module, rows = made(name)
    run(export(module, rows, strict=False), module, rows, (1, 3, 5))


@pytest.mark.slow
@each_of_ours
def test_an_encoder_is_compiled(name):
    module, rows = made(name)
    run(compiled(module), module, rows, (3,))


# transformers counts the outputs that it collects in a variable of its module, which torch reports and gives back
collector = pytest.mark.filterwarnings("ignore:(?s).*certain side effects.*_active_collector:UserWarning")


@pytest.mark.sweep  # minutes: each is traced three times
@collector
@every_encoder
def test_an_encoder_trains_compiled_with_any_number_of_rows(name):
    module, rows = made(name)
    run(export(module, rows, strict=True), module, rows, (1, 3, 5))
    graph = compiled(module.train())  # the second number of rows makes a graph of any number
    for n in (2, 3, 1, 5):
        given = rows(n)
        compare(graph(*given), module(*given))
    parameters = [p for p in module.parameters() if p.requires_grad]  # Whisper's sinusoids need none
    if parameters:
        torch.manual_seed(1)
        weight = torch.randn(5, module.width, dtype=torch.float64)
        wanted = torch.autograd.grad((module(*given).pooled * weight).sum(), parameters)
        found = torch.autograd.grad((graph(*given).pooled * weight).sum(), parameters)
        compare(found, wanted)


again = ["Series", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("TransformerText", "PointTransformer"))]


@pytest.mark.parametrize("name", again)
def test_an_encoder_that_computes_blocks_again_is_exported(name):
    make, values = checkpointed[name]
    encoder = make(checkpointing=True).double().eval()
    graph = export(encoder, lambda n: (values(n),), strict=True)  # with gradients
    given = values(5)
    compare(graph(given), encoder(given))


@pytest.mark.parametrize("make", few(every_head.args[1], 4))
def test_a_head_is_compiled_and_exported(make):
    head = Called(make(12, 5).double())

    def rows(n):
        return tuple(features(n))

    run(export(head, rows, strict=False), head, rows, (1, 3, 5))
    run(compiled(head), head, rows, (3,))


towers = {
    "image": lambda: Tower(Image(16), ImageCNN(16, widths=(8,), stem=2), MLP),
    "audio": lambda: Tower(Audio(8000, 0.25, n_mels=16), SpectrogramCNN(16, n_mels=16, widths=(8,))),
    "points": lambda: Tower(Points(32), PointNet(16, hidden=(8,))),
    "text": lambda: Tower(Bytes(12), TransformerText(259, 12, width=16, depth=1, heads=2), AttentionPool),
}


def tower_of(name):
    """(tower, n -> its arguments)."""
    torch.manual_seed(0)
    tower = JointModel({name: towers[name]()}, 8).eval().towers[name]
    values = tower.preprocess.collate([])

    def rows(n):
        shape = (n, *values.shape[1:])
        return (torch.rand(shape) if values.is_floating_point() else torch.randint(1, 100, shape).to(values.dtype),)

    return tower, rows


@pytest.mark.parametrize("name", towers)
def test_a_tower_is_exported_with_what_its_preprocess_does_on_the_device(name):
    tower, rows = tower_of(name)
    run(export(tower, rows, strict=False), tower, rows, (1, 3, 5))


@pytest.mark.sweep
@pytest.mark.parametrize("name", towers)
def test_a_tower_is_compiled(name):
    tower, rows = tower_of(name)
    run(compiled(tower), tower, rows, (3, 5))
