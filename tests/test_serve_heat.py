"""Heat maps of the server: each place's cosine with a phrase, over HTTP, and the switch on the search page."""

import io
import json
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from browsing import chromium, until
from PIL import Image as Pictures
from served import Colours, make_index, model, samples, serving
from test_dense_evaluation import Cells
from tiny_space import Letters

from align.embedding import fingerprint
from align.heads import Identity
from align.model import JointModel, Tower
from align.page.overlay import draw_heat
from align.preprocess import Bytes, Image
from align.search.searcher import Searcher
from align.serve.app import list_routes
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.openapi import describe


def load(folder, image=Cells):
    """A server's world whose pictures have 4 x 4 cells. The words b, c and d are red, green and blue."""
    old = model()
    plain = Image(8, mean=(0.0,) * 3, std=(1.0,) * 3)
    towers = {m: old.towers[m] for m in ("audio", "points")} | {
        "image": Tower(plain, image(), Identity),
        "text": Tower(Bytes(context=32), Letters(), Identity),
    }
    made = JointModel(towers, 8).eval()
    loaded = Loaded(made, Searcher(make_index(folder, made), made), Limits(decoders=1), sha256=fingerprint(made))
    loaded.decoders.start()
    return loaded


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(load(tmp_path_factory.mktemp("heat"))) as (url, service):
        yield url, service


def get(url):
    with urlopen(url) as answer:
        return answer.headers, answer.read()


@pytest.mark.slow
def test_the_map_is_that_of_the_model(served):
    url, service = served
    found = json.loads(get(f"{url}/v1/items/5/heat/image?text=ccc")[1])
    data = samples()["0004"]["image.png"]
    made = service.loaded.model
    assert json.loads(get(f"{url}/v1/items/5")[1])["key"] == "0004"
    dense, vector = made.dense(image=[data])[0], made.embed(text=["ccc"])["text"][0]
    assert found["grid"] == [4, 4]
    for y in range(4):
        for x in range(4):
            assert found["cosines"][y][x] == pytest.approx(float(dense[y, x] @ vector), abs=1e-5)
    headers, png = get(f"{url}/v1/items/5/heat/image?text=ccc&form=png")
    assert headers["content-type"] == "image/png"
    assert Pictures.open(io.BytesIO(png)).size == (192, 192)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("4/heat/image", 422, "text is missing: the phrase to look for"),
        ("4/heat/image?text=+", 422, "text is missing"),
        ("4/heat/image?text=c&row=x", 422, "row is a whole number"),
        ("4/heat/image?text=c&form=gif", 422, "form is json or png"),
        ("99/heat/image?text=c", 404, "there is no item 99"),
        ("4/heat/image?text=c&row=3", 404, "item 4 has no"),
        ("4/heat/film?text=c", 422, "the model has no 'film'"),
        ("4/heat/audio?text=c", 422, "the tower of 'audio' gives no grid of places, so it has no heat map"),
    ],
)
def test_what_cannot_be_mapped_is_refused(served, path, status, message):
    with pytest.raises(HTTPError) as error:
        urlopen(f"{served[0]}/v1/items/{path}")
    assert error.value.code == status
    assert message in json.loads(error.value.read())["error"]["message"]


def test_the_route_is_described():
    assert "/v1/items/{id}/heat/{modality}" in {route.path for route in list_routes()}
    described = describe(Limits())
    (names,) = [
        [p["name"] for p in one["get"]["parameters"]] for path, one in described["paths"].items() if "/heat/" in path
    ]
    assert names == ["id", "modality", "row", "text", "form"]
    assert set(described["components"]["schemas"]["Heat"]["required"]) >= {"grid", "cosines"}


def test_a_heat_map_lies_over_its_picture():
    picture, heat = torch.full((3, 8, 8), 128, dtype=torch.uint8), torch.zeros(4, 4)
    heat[1, 2] = 1.0
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:4, 4:6] = True
    drawn = np.asarray(Pictures.open(io.BytesIO(draw_heat(picture, heat, mask)))).astype(int)
    assert drawn.shape == (192, 192, 3)
    red = drawn[..., 0] - drawn[..., 2]
    red[(drawn == 255).all(-1)] = -255  # the outline
    y, x = divmod(int(red.argmax()), 192)
    assert (y // 48, x // 48) == (1, 2)  # the hottest cell
    assert (drawn[47:50, 100:140] == 255).all(-1).any()  # the region's upper edge
    assert not (drawn[10:40, 10:40] == 255).all(-1).any()
    flat = np.asarray(Pictures.open(io.BytesIO(draw_heat(picture[:1], torch.ones(4, 4)))))
    assert (flat == flat[0, 0]).all()


@pytest.mark.slow
def test_the_switch_shows_the_map_and_the_picture_again(served, tmp_path):
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(8000)
        lines = []
        page.on("console", lambda line: lines.append(line.text))
        page.on("pageerror", lambda error: lines.append(str(error)))
        page.goto(f"{served[0]}/?text=ccc&of=image")
        button, img = page.locator("a.places").first, page.locator(".hit img.picture").first
        plain = img.get_attribute("src")
        assert button.get_attribute("aria-pressed") == "false"
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert "/heat/image?text=ccc&form=png" in img.get_attribute("src")
        until(page, "document.querySelector('.hit img.picture').naturalWidth === 192")
        page.screenshot(path=str(tmp_path / "on.png"))
        button.press("Space")
        assert img.get_attribute("src") == plain
        page.goto(f"{served[0]}/?text=ccc&of=audio")
        assert page.locator("a.places").count() == 0
        assert lines == []
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(f"{served[0]}/?text=ccc&of=image")
        with plain.expect_navigation():
            plain.locator("a.places").first.click()
        assert "/heat/image" in plain.url


@pytest.mark.slow
def test_a_tower_without_places_has_no_switch(tmp_path):
    with serving(load(tmp_path, Colours)) as (url, _):
        assert b'class="places"' not in get(f"{url}/?text=ccc&of=image")[1]
