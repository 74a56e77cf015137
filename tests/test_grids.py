"""Places of tokens: a grid has a cell for each token, and a cloud's points read the tokens of the centres near them."""

import pytest
import torch
from test_encoders import cases

from align.encoders import ImageCNN, PointNet, PointTransformer, SpectrogramCNN, SpectrogramImage
from align.encoders.clouds.between import interpolate

GRIDS = {"HFImage", "ImageCNN", "OpenClipImage", "SpectrogramCNN", "SpectrogramImage", "SpectrogramViT", "TimmImage"}
POINTS = {"PointBERT", "PointNet", "PointNet2", "PointTransformer", "Uni3D"}
QUICK = {"ImageCNN", "PointTransformer", "SpectrogramCNN", "SpectrogramImage", "PointNet", "Vector", "Precomputed"}

pytestmark = pytest.mark.usefixtures("tiny_clip")


def check_places(name):
    make, values = cases[name]
    torch.manual_seed(0)
    encoder, x = make().double().eval(), values(2)
    kind = name.split("-")[0]
    with torch.no_grad():
        tokens = encoder(x).tokens
        at_points = encoder.at_points(x, tokens)
    grid = encoder.grid_of(x)
    assert (grid is not None) == (kind in GRIDS)
    assert encoder.grid in (None, grid)
    if grid is not None:
        assert tokens.shape[1] == encoder.grid_start + grid[0] * grid[1]
    assert (at_points is not None) == (kind in POINTS)
    if at_points is not None:
        assert at_points.shape == (2, x.shape[1], encoder.width)


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_grid_has_a_cell_for_each_token(name):
    check_places(name)


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted({*cases} - QUICK))
def test_every_other_grid_has_a_cell_for_each_token(name):
    check_places(name)


@pytest.mark.parametrize(
    ("encoder", "shape", "grid"),
    [
        (ImageCNN(width=24, widths=(8, 16), stem=2), (3, 33, 40), (9, 10)),
        (SpectrogramCNN(width=24, n_mels=16, widths=(8, 16)), (1, 16, 41), (1, 6)),
        (SpectrogramImage(ImageCNN(width=24, widths=(8,), stem=4), (16, 40), 3.0), (1, 5, 9), (4, 10)),
    ],
)
def test_a_grid_follows_the_size_of_the_input(encoder, shape, grid):
    x = torch.randn(2, *shape)
    assert encoder.grid_of(x) == grid
    assert encoder(x).tokens.shape[1] == grid[0] * grid[1]


def test_tokens_come_row_by_row_from_the_top_left():
    torch.manual_seed(0)
    encoder, x = ImageCNN(width=24, widths=(8,), stem=4), torch.zeros(1, 3, 16, 24)
    before = encoder(x).tokens
    x[:, :, 8, 4] = 3  # the middle of the kernel of row 2, column 1
    change = (encoder(x).tokens - before).norm(dim=-1)[0].view(encoder.grid_of(x))
    assert divmod(int(change.argmax()), 6) == (2, 1)


def test_a_point_has_the_weighted_mean_of_its_three_nearest_centres():
    torch.manual_seed(0)
    xyz, centres, features = torch.randn(2, 7, 3), torch.randn(2, 5, 3), torch.randn(2, 5, 4)
    xyz[1, 3] = centres[1, 2]
    got = interpolate(xyz, centres, features)
    for b in range(2):
        for p in range(7):
            squares = [float(((xyz[b, p] - c) ** 2).sum()) for c in centres[b]]
            near = sorted(range(5), key=lambda g, squares=squares: squares[g])[:3]
            weights = [1 / max(squares[g], 1e-12) for g in near]
            want = sum(w * features[b, g] for w, g in zip(weights, near, strict=True)) / sum(weights)
            torch.testing.assert_close(got[b, p], want, rtol=1e-4, atol=1e-5)


def test_a_centre_has_the_features_of_its_token():
    torch.manual_seed(0)
    encoder = PointTransformer(width=16, depth=1, heads=2, groups=6, neighbours=5, patch_width=8).double()
    x = torch.rand(2, 30, 6, dtype=torch.float64)
    tokens = encoder(x).tokens
    each, centres = encoder.at_points(x, tokens), encoder._centres(x[..., :3])
    for b in range(2):
        for g in range(6):
            point = int((x[b, :, :3] - centres[b, g]).norm(dim=-1).argmin())
            torch.testing.assert_close(each[b, point], tokens[b, g])


def test_a_point_of_a_pointnet_has_the_features_of_its_cloud():
    torch.manual_seed(0)
    encoder, x = PointNet(width=8, hidden=(8, 16)).double(), torch.rand(1, 5, 6, dtype=torch.float64)
    each = encoder.at_points(x, None)
    for p in range(5):
        torch.testing.assert_close(each[:, p], encoder(x[:, p : p + 1]).pooled)
