"""The search page in a real browser, which reaches nothing but the server."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from browsing import chromium, until
from served import picture, serving, tone
from shown import MESH, SAMPLES, deep_picture, load, samples, wide_model

from align.search.item import Item
from align.search.parts import Part
from align.serve.limits import Limits
from align.serve.page.space import Space
from align.serve.refusal import Refusal

pytestmark = pytest.mark.slow

LIMITS = Limits(decoders=1)
RED = picture((250, 10, 10), 32)
HITS = ".hit:not([hidden])"
SECONDS = """new Promise((done) => {
    const a = document.querySelector("audio");
    a.onloadedmetadata = () => done(a.duration);
    a.onerror = () => done(-1);
    a.load();
})"""
SLIDE = """(value) => {
    const slider = document.getElementById("slider");
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(load(tmp_path_factory.mktemp("page")), LIMITS) as (url, service):
        yield url, service


@pytest.fixture(scope="module")
def url(served):
    return served[0]


@pytest.fixture(scope="module")
def searcher(served):
    return served[1].loaded.searcher


@pytest.fixture(scope="module")
def browser():
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as opened:
        yield opened


class Window:
    """A page of the browser, with the lines of its console and the requests that leave the server."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.url, self.lines, self.away = url, [], []
        self.context.route("**/*", self._guard)
        self.page = self.context.new_page()
        self.page.set_default_timeout(8000)
        self.page.on("console", lambda line: self.lines.append(line.text))
        self.page.on("pageerror", lambda error: self.lines.append(str(error)))

    def _guard(self, route):
        if route.request.url.startswith(self.url):
            route.continue_()
        else:
            self.away.append(route.request.url)
            route.abort()

    def open(self, address: str = ""):
        self.page.goto(f"{self.url}/{address}")
        return self.page


@pytest.fixture
def window(browser, url):
    opened = []

    def make(**options) -> Window:
        opened.append(Window(browser, url, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.context.close()


@pytest.fixture
def page(window):
    """The page with nothing asked. No line may stand in the console, and nothing may leave the server."""
    one = window()
    yield one.open()
    assert one.away == []
    assert [line for line in one.lines if "the server responded with" not in line and "ERR_" not in line] == []


@contextmanager
def answered(page):
    """The block's question is answered."""
    page.evaluate("window.answers = 0; document.addEventListener('results', () => { window.answers += 1 })")
    yield
    until(page, "window.answers > 0")


def ask(page, words: str) -> None:
    page.fill("#text", words)
    with answered(page):
        page.press("#text", "Enter")


def drop(page, name: str, data: bytes, how: str = "drop") -> None:
    """Drop a file on the page, or paste it."""
    page.evaluate(
        """([name, bytes, how]) => {
            const holder = new DataTransfer();
            const type = name.endsWith("png") ? "image/png" : "";
            holder.items.add(new File([new Uint8Array(bytes)], name, { type }));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(how === "drop"
              ? new DragEvent("drop", { ...options, dataTransfer: holder })
              : new ClipboardEvent("paste", { ...options, clipboardData: holder }));
        }""",
        [name, list(data), how],
    )


def follow(page, link: str) -> None:
    """Click on a link or a button that leads to another page."""
    with page.expect_navigation():
        page.click(link)


def shown(page) -> list[int]:
    """The items of the hits that are not hidden, in their order."""
    return [int(e.get_attribute("id").removeprefix("hit-")) for e in page.query_selector_all(HITS)]


def numbers(found) -> list[int]:
    return [hit.sample for hit in found.hits]


def test_words_find_pictures_in_an_ordered_list(page, searcher):
    ask(page, "a red thing")
    found = searcher.search({"text": "a red thing"}, "image", 24)
    assert page.query_selector("ol.hits > li.hit") is not None
    assert shown(page) == numbers(found)
    scores = [float(e.get_attribute("data-score")) for e in page.query_selector_all(".hit")]
    assert scores == pytest.approx([hit.score for hit in found.hits], abs=1e-4)
    assert [int(e.inner_text()) for e in page.query_selector_all(".rank")] == list(range(1, 25))
    assert page.inner_text("#status") == f"24 results of {SAMPLES + 1} with image, best first."
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", page.inner_text("#time"))
    assert page.get_attribute("#status", "role") == "status"


@pytest.mark.sweep
def test_each_look_among_has_its_count(page, searcher):
    said = {e.inner_text().split()[0]: int(e.inner_text().split()[1]) for e in page.query_selector_all(".choice label")}
    assert said == {m: searcher.index.count(m) for m in searcher.index.modalities}
    assert next(iter(said)) in ("image", "depth")
    ask(page, "blue")
    with answered(page):
        page.check("input[name=of][value=audio]", force=True)
    assert shown(page) == numbers(searcher.search({"text": "blue"}, "audio", 24))
    assert "with audio" in page.inner_text("#status")


@pytest.mark.parametrize(
    ("how", "name", "modality"),
    [
        ("drop", "red.png", "image"),
        pytest.param("paste", "red.png", "image", marks=pytest.mark.sweep),
        ("choose", "tone.flac", "audio"),
        pytest.param("drop", "a.ply", "points", marks=pytest.mark.sweep),
    ],
)
def test_a_file_asks(page, searcher, how, name, modality):
    data = {"red.png": RED, "tone.flac": tone(600), "a.ply": MESH}[name]
    with answered(page):
        if how == "choose":
            page.set_input_files("#file", {"name": name, "mimeType": "audio/flac", "buffer": data})
        else:
            drop(page, name, data, how)
    assert page.inner_text(".chip .name") == name
    if modality != "points":  # a mesh is sampled by the server
        assert shown(page) == numbers(searcher.search({modality: data}, "image", 24))
    # the file became its embedding, which asks from now on
    assert page.get_attribute(".chip input[name=vector]", "value").startswith(f"{modality}:")
    with answered(page):
        page.check("input[name=of][value=points]", force=True)
    assert len(shown(page)) == 24


def test_several_parts_have_weights_and_minus(page, searcher):
    ask(page, "a blue thing")
    with answered(page):
        drop(page, "red.png", RED)
    with answered(page):
        drop(page, "tone.flac", tone(600))
    with answered(page):
        page.locator(".chip").nth(0).locator(".minus").click()
    with answered(page):
        page.locator(".chip").nth(1).locator("input[type=range]").fill("0.5")
    parts = [Part("text", "a blue thing"), Part("image", RED, -1.0), Part("audio", tone(600), 0.5)]
    found = searcher.search(parts, "image", 24)
    assert shown(page) == numbers(found)
    rows = [e.inner_text().split("\n") for e in page.query_selector_all(".hit:first-child .scores > div")]
    assert [row[0] for row in rows] == ["text", "− image", "audio"]
    assert [float(row[-1]) for row in rows] == pytest.approx(list(found.hits[0].cosines.values()), abs=0.006)
    assert page.locator(".chip.less").count() == 1
    with answered(page):
        page.locator(".chip").nth(0).locator(".plain-button").click()
    assert shown(page) == numbers(searcher.search(parts[:1] + parts[2:], "image", 24))


@pytest.mark.sweep
def test_more_words_are_a_part(page, searcher):
    ask(page, "a red thing")
    page.click("#more-words")
    page.keyboard.type("hhh")
    with answered(page):
        page.keyboard.press("Enter")
    with answered(page):
        page.locator(".chip .minus").click()
    parts = [Part("text", "a red thing"), Part("text", "hhh", -1.0)]
    assert shown(page) == numbers(searcher.search(parts, "image", 24))


@pytest.mark.sweep
def test_the_microphone_records_a_wave(window):
    one = window(permissions=["microphone"])
    page = one.open()
    page.click("#record")
    page.wait_for_selector("#record[aria-pressed=true]")
    page.wait_for_timeout(1300)
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_buffer) if request.method == "POST" else None)
    with answered(page):
        page.click("#record")
    assert page.inner_text(".chip .name") == "recording 1.wav"
    wave = sent[0][sent[0].index(b"RIFF") :]
    assert wave[8:16] == b"WAVEfmt "
    rate = int.from_bytes(wave[24:28], "little")
    assert int.from_bytes(wave[40:44], "little") > rate  # half a second and more of 16 bits
    assert any(wave[44:])  # the browser's own beep
    assert page.inner_text("#record") == "Record"
    assert len(shown(page)) == 24
    assert one.lines == []


@pytest.mark.sweep
def test_the_camera_takes_a_picture(window):
    page = window(permissions=["camera"]).open()
    page.click("#camera")
    page.wait_for_selector("#snap video")
    with answered(page):
        page.click("#snap .go")
    assert page.inner_text(".chip .name") == "camera 1.jpg"
    assert page.is_hidden("#snap")


@pytest.mark.slow
def test_a_microphone_that_is_not_allowed_says_so(window):
    page = window().open()
    deny = (
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') } }"
    )
    page.evaluate(deny)
    page.click("#record")
    page.wait_for_selector(".problem[data-place=parts]:not([hidden])")
    assert page.inner_text(".problem[data-place=parts]") == "The browser does not allow the microphone here."


def test_results_are_pictures_players_clouds_drawings_and_words(page):
    ask(page, "a red thing")
    first = page.query_selector(".hit img.picture")
    until(page, "document.querySelector('.hit img.picture').naturalWidth == 64")
    assert first.get_attribute("alt").startswith("a ")
    with answered(page):
        page.check("input[name=of][value=audio]", force=True)
    assert page.query_selector(".hit audio[controls]").get_attribute("aria-label")
    assert page.evaluate("getComputedStyle(document.querySelector('.wave')).maskImage").startswith("url(")
    assert page.evaluate(SECONDS) == pytest.approx(0.25, abs=0.05)
    with answered(page):
        page.check("input[name=of][value=points]", force=True)
    page.wait_for_selector(".hit canvas")
    picture_of = "document.querySelector('.hit canvas').toDataURL()"
    page.wait_for_timeout(300)
    before = page.evaluate(picture_of)
    page.wait_for_timeout(400)
    assert page.evaluate(picture_of) != before  # it turns
    with answered(page):
        page.check("input[name=of][value=track]", force=True)
    until(page, "document.querySelector('.hit img.picture').naturalWidth > 0")
    with answered(page):
        page.check("input[name=of][value=depth]", force=True)
    until(page, "document.querySelector('.hit img.picture').naturalWidth == 16")
    assert page.query_selector(".hit img.tiny") is not None
    with answered(page):
        page.check("input[name=of][value=text]", force=True)
    assert page.inner_text(".hit .words").startswith("a ")


def test_odd_files_are_shown_and_their_originals_stay(window):
    one = window()
    page = one.open(f"item/{SAMPLES + 1}")
    until(page, "document.querySelector('img.picture').naturalWidth == 16")
    assert page.evaluate(SECONDS) == pytest.approx(0.25, abs=0.05)  # fmt: skip
    page.wait_for_selector("canvas")
    links = [e.get_attribute("href") for e in page.query_selector_all("a[download]")]
    contents = {one.context.request.get(f"{one.url}/item/{link}").body() for link in links}
    assert contents == {deep_picture(), tone(900, kind="AIFF"), MESH}
    assert one.lines == []


@pytest.mark.sweep
def test_an_item_without_words_shows_its_key(window):
    page = window().open(f"item/{SAMPLES}")
    assert page.inner_text("h1") == f"{SAMPLES - 1:04d}"
    page = window().open(f"?text=red&of=image&k={SAMPLES + 1}")
    assert f"{SAMPLES - 1:04d}" in [e.inner_text() for e in page.query_selector_all(".hit h2 a")]


@pytest.mark.sweep
def test_the_threshold_hides_hits_at_once(page):
    ask(page, "a red thing")
    scores = sorted((float(e.get_attribute("data-score")) for e in page.query_selector_all(".hit")), reverse=True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    middle = (scores[0] + scores[-1]) / 2
    page.evaluate(SLIDE, middle)
    value = float(page.input_value("#slider"))
    above = [score for score in scores if score >= value]
    assert len(shown(page)) == len(above)
    said = f"{len(above)} of 24 above {value:.3f}" if value < 10 else f"{len(above)} of 24 above {value:.2f}"
    assert page.inner_text("#above") == said
    until(page, "said => document.getElementById('status').textContent === said + '.'", arg=said)
    assert asked == []
    assert "threshold=" in page.url
    page.reload()
    assert len(shown(page)) == len(above)
    assert page.inner_text("#chosen").strip() == f"All {len(above)}"


@pytest.mark.sweep
def test_a_score_that_none_reaches_says_so(page):
    page.goto(f"{page.url}?text=a+red+thing&of=image&threshold=1000")
    assert shown(page) == []
    assert page.inner_text("#none-above").startswith("No result reaches this score.")
    assert page.is_hidden("#onward")
    page.click("#lift")
    assert len(shown(page)) == 24
    assert page.is_hidden("#none-above")
    assert page.is_visible("#onward")
    until(page, "!location.search.includes('threshold')")


@pytest.mark.sweep
def test_a_least_score_ends_with_its_question(page):
    ask(page, "a red thing")
    page.evaluate(SLIDE, float(page.get_attribute("#slider", "max")))
    until(page, "location.search.includes('threshold')")
    with answered(page):
        page.check('#filters [name="is.label"][value=red]')
    assert "threshold" in page.url  # the same scores, fewer candidates
    with answered(page):
        page.check("input[name=captions]")
    assert "threshold" not in page.url  # these scores are sums of ranks
    assert page.is_hidden("#none-above")


@pytest.mark.sweep
def test_a_calibrated_score_is_offered_where_it_holds(window, searcher):
    scores = [hit.score for hit in searcher.search({"text": "a red thing"}, "image", 24).hits]
    value = (max(scores) + min(scores)) / 2
    above = sum(score >= value for score in scores)
    assert 0 < above < 24
    facts = {"value": value, "precision": 0.9, "recall": 0.5, "n": 7, "stated": 0.9}
    with searcher.index.change() as change:
        change.about(threshold={"text_to_image/objective": facts, "audio_to_image/cosine": {**facts, "value": 99.0}})
    one = window()
    page = one.open()
    ask(page, "a red thing")
    assert page.inner_text("#calibrated").split("\n")[0].startswith("Calibrated")
    assert "90 % right" in page.inner_text("#calibrated")
    page.click("#calibrated")
    assert len(shown(page)) == above
    until(page, "location.search.includes('threshold')")
    page.reload()
    assert len(shown(page)) == above
    for address in ("?text=red&weight=0.5&of=image", "?text=red&of=points", "?text=red&text=blue&of=image"):
        assert one.open(address).query_selector("#calibrated") is None
    page = window(java_script_enabled=False).open("?text=a+red+thing&of=image")
    follow(page, "#calibrated")
    assert len(shown(page)) == above
    page = window(java_script_enabled=False).open("?item=audio:3&of=image")
    follow(page, "#calibrated")
    assert shown(page) == []
    follow(page, "#lift")
    assert len(shown(page)) == 24


def test_filters_have_counts_and_narrow(page, searcher):
    ask(page, "a red thing")
    ticks = {
        e.inner_text().split("\n")[0]: int(e.inner_text().split("\n")[-1])
        for e in page.query_selector_all("#filters .tick")
    }
    abouts = [json.loads(s["json"]) for s in samples().values() if "json" in s]
    for name in ("red", "green", "blue"):
        assert ticks[name] == sum(about["label"] == name for about in abouts)
    assert ticks["even"] == sum("even" in about["tags"] for about in abouts)
    assert ticks["yes"] == sum(about["night"] for about in abouts)
    with answered(page):
        page.check('#filters [name="is.label"][value=red]')
    where = {"label": "red"}
    assert shown(page) == numbers(searcher.search({"text": "a red thing"}, "image", 24, where=where))
    assert page.evaluate("document.activeElement.value") == "red"  # the focus has come back
    count = page.inner_text('#filters .tick:has([name="is.label"][value=blue]) small')
    assert int(count) == ticks["blue"]  # its own key's counts heed the other keys alone
    with answered(page):
        page.check('#filters [name="is.tags"][value=even]')
    where = {"all": [{"label": "red"}, {"tags": {"contains": "even"}}]}
    assert shown(page) == numbers(searcher.search({"text": "a red thing"}, "image", 24, where=where))
    page.fill('[name="from.year"]', "2000")
    with answered(page):
        page.press('[name="from.year"]', "Enter")
    where["all"].append({"year": {"gte": 2000}})
    assert shown(page) == numbers(searcher.search({"text": "a red thing"}, "image", 24, where=where))
    kept = shown(page)
    page.reload()
    assert shown(page) == kept
    page.click("text=Clear all filters")
    until(page, "document.querySelectorAll('.hit').length === 24")


@pytest.mark.sweep
def test_more_like_this_add_and_less(page, searcher):
    ask(page, "a red thing")
    first = shown(page)[0]
    page.evaluate("window.stays = true")
    with answered(page):
        page.click(f"#hit-{first} .like")
    assert page.evaluate("window.stays")  # the page is not loaded anew
    assert page.evaluate("document.activeElement.id") == "found"
    assert page.input_value(".chip input[name=item]") == f"image:{first}"
    assert page.input_value("#text") == ""
    row = searcher.index.rows("image", [first]).values[0]
    assert shown(page) == [n for n in numbers(searcher.search([Part("image", row)], "image", 25)) if n != first]
    assert [int(e.inner_text()) for e in page.query_selector_all(".rank")] == list(range(1, 25))
    kept = shown(page)
    page.reload()
    assert shown(page) == kept
    other = shown(page)[5]
    page.click(f"#hit-{other} .menu summary")
    with answered(page):
        page.click(f"#hit-{other} >> text=Less like this")
    less = Part("image", searcher.index.rows("image", [other]).values[0], -0.5)
    order = numbers(searcher.search([Part("image", row), less], "image", 26))
    assert shown(page) == [n for n in order if n not in (first, other)][:24]
    page.go_back()
    until(page, "document.querySelectorAll('.chip').length === 1")


@pytest.mark.sweep
def test_an_item_asks_for_its_own_row_of_another_modality(page, searcher):
    page.goto(f"{page.url}?item=audio:4&of=image")
    row = searcher.index.rows("audio", [4]).values[0]
    assert shown(page) == numbers(searcher.search([Part("audio", row)], "image", 24))
    assert 4 in shown(page)


@pytest.mark.sweep
def test_near_duplicates_fold_and_open(page, searcher):
    ask(page, "a red thing")
    with answered(page):
        page.check("[name=fold]")
    found = searcher.search({"text": "a red thing"}, "image", 24, fold=True)
    assert shown(page) == numbers(found)
    hit = next(hit for hit in found.hits if hit.same)
    assert page.inner_text(f"#hit-{hit.sample} .same summary") == f"+{len(hit.same)} nearly the same"
    page.click(f"#hit-{hit.sample} .same summary")
    assert page.is_visible(f"#hit-{hit.sample} .same a")


@pytest.mark.sweep
def test_more_results_keep_the_first(page, searcher):
    ask(page, "a red thing")
    before = shown(page)
    with answered(page):
        page.click("#onward")
    assert shown(page)[:24] == before
    assert len(shown(page)) == SAMPLES + 1
    assert page.evaluate("document.activeElement.closest('.hit').querySelector('.rank').textContent") == "25"


@pytest.mark.sweep
def test_the_address_is_the_query(page, window):
    ask(page, "a red thing")
    with answered(page):
        page.check("[name=captions]")
    kept, address = shown(page), page.url
    other = window().open(address.split("/", 3)[3])
    assert shown(other) == kept
    assert other.input_value("#text") == "a red thing"
    assert other.is_checked("[name=captions]")
    with answered(page):
        drop(page, "red.png", RED)
    assert page.inner_text(".fine-print") == "A link would not hold your files."
    page.go_back()
    until(page, "document.querySelectorAll('.chip').length === 0")


@pytest.mark.sweep
def test_copies(window):
    one = window(permissions=["clipboard-read", "clipboard-write"])
    page = one.open("?text=a+red+thing&of=image")
    first = shown(page)[0]
    for text, ending in (("Copy text", page.inner_text(".hit h2 a")), ("Copy link", f"/item/{first}")):
        page.click(f"#hit-{first} .menu summary")
        page.click(f"#hit-{first} >> text={text}")
        page.wait_for_selector("#toast:not([hidden])")
        assert page.evaluate("navigator.clipboard.readText()").endswith(ending)
    page.click(f"#hit-{first} .menu summary")
    page.click(f"#hit-{first} >> text=Copy picture")
    until(page, "document.getElementById('toast').textContent === 'Picture copied'")
    kinds = page.evaluate("navigator.clipboard.read().then((items) => items[0].types)")
    assert "image/png" in kinds
    page.click("#link")
    until(page, "document.getElementById('toast').textContent === 'Link copied'")
    assert page.evaluate("navigator.clipboard.readText()") == f"{one.url}/?text=a+red+thing&of=image"


@pytest.mark.sweep
def test_the_chosen_are_a_shard_or_a_table(page, searcher, tmp_path):
    from align.data import Shards

    ask(page, "a red thing")
    chosen = [shown(page)[0], shown(page)[3]]
    for number in chosen:
        page.check(f"#hit-{number} [name=chosen]")
    assert page.inner_text("#chosen").strip() == "2 chosen"
    with page.expect_download() as waiting:
        page.click("#take [value=tar]")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 2 * 7
    shard = Shards([str(path)])
    assert len(shard) == 2
    stored = list(samples().values())
    for place, number in enumerate(chosen):
        sample = shard.read(place)[0]
        assert sample["image.0.png"] == stored[number - 1]["image.png"]
        assert json.loads(sample["json"])["label"] == json.loads(stored[number - 1]["json"])["label"]
    with page.expect_download() as waiting:
        page.click("#take [value=csv]")
    waiting.value.save_as(tmp_path / "found.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "found.csv").read_text("utf-8-sig"))))
    assert [int(row["item"]) for row in rows] == chosen
    hits = {hit.sample: hit for hit in searcher.search({"text": "a red thing"}, "image", 24).hits}
    assert [float(row["score"]) for row in rows] == pytest.approx([hits[n].score for n in chosen], abs=1e-3)
    assert [row["key"] for row in rows] == [hits[n].item.key for n in chosen]


@pytest.mark.sweep
def test_an_example_of_every_medium_asks(page, searcher):
    assert page.locator(".example").count() == len(searcher.index.modalities)
    link = page.locator(".example a").nth(0)
    link.click()
    page.wait_for_selector(".hit")
    assert len(shown(page)) == 24
    page.go_back()
    page.locator(".example:has(.words) a").click()
    page.wait_for_selector(".hit")
    assert page.input_value("#text").startswith("a ")


@pytest.mark.sweep
def test_a_file_of_the_query_survives_the_way_to_an_item_and_back(page, searcher):
    with answered(page):
        drop(page, "red.png", RED)
    with answered(page):
        page.locator(".chip .minus").click()
    kept = shown(page)
    follow(page, ".hit h2 a")
    page.go_back()
    until(page, "document.querySelectorAll('.hit').length === 24")
    assert shown(page) == kept == numbers(searcher.search([Part("image", RED, -1.0)], "image", 24))
    assert page.inner_text(".chip .name") == "red.png"
    assert page.locator(".chip.less").count() == 1


@pytest.mark.sweep
def test_class_names_tell_a_file_apart(page):
    from align import classify

    assert page.is_hidden("[name=classes]")
    with answered(page):
        drop(page, "red.png", RED)
    page.fill("[name=classes]", "bbb, ccc, ddd")
    with answered(page):
        page.press("[name=classes]", "Enter")
    (found,), *_ = [classify(wide_model(), ["bbb", "ccc", "ddd"], image=[RED])]
    shares = dict(sorted(found.probabilities.items(), key=lambda entry: -entry[1]))
    rows = [e.inner_text().split("\n") for e in page.query_selector_all(".shares > div")]
    assert {row[0]: row[-1] for row in rows} == {name: f"{share:.1%}" for name, share in shares.items()}
    page.fill("[name=classes]", "bbb")
    page.press("[name=classes]", "Enter")
    page.wait_for_selector(".problem[data-place=classes]:not([hidden])")
    assert "two or more" in page.inner_text(".problem[data-place=classes]")


@pytest.mark.sweep
def test_a_file_of_two_modalities_goes_to_the_chosen_one(page, searcher):
    page.select_option("#as", "depth")
    with answered(page):
        drop(page, "blue.png", picture((10, 10, 250), 16))
    assert page.get_attribute(".chip input[name=vector]", "value").startswith("depth:")
    assert shown(page) == numbers(searcher.search({"depth": picture((10, 10, 250), 16)}, "image", 24))


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("broken.png", b"\x89PNG\r\n\x1a\nno", "broken.png: "),
        ("notes.xyz", b"x", "notes.xyz is no file that this model reads"),
    ],
)
def test_a_bad_file_is_one_sentence_beside_it(page, name, data, sentence):
    ask(page, "a red thing")
    kept = shown(page)
    page.evaluate("scrollTo({ top: 10000, behavior: 'instant' })")
    drop(page, name, data)
    page.wait_for_selector(".problem[data-place=parts]:not([hidden])")
    until(page, "document.querySelector('.problem[data-place=parts]').getBoundingClientRect().top >= 0")
    said = page.inner_text(".problem[data-place=parts]")
    assert said.startswith(sentence)
    assert said.count("\n") == 0
    assert page.locator(".chip.wrong").count() == 1
    assert page.input_value("#text") == "a red thing"
    assert shown(page) == kept
    page.click(".chip .plain-button")
    page.wait_for_selector(".problem[data-place=parts]", state="hidden")


def test_errors_keep_the_query(page, served, monkeypatch):
    ask(page, "a red thing")
    service = served[1]
    search = type(service).search

    async def busy(*args, **options):
        raise Refusal(429, "the queue is full; ask again in a second", retry=1)

    monkeypatch.setattr(type(service), "search", busy)
    page.fill("#text", "a blue thing")
    page.press("#text", "Enter")
    page.wait_for_selector(".problem:not([hidden]) >> text=The queue is full")
    monkeypatch.setattr(type(service), "search", search)
    with answered(page):
        page.click("text=Try again")
    assert page.locator(".problem:not([hidden]):not(.answer)").count() == 0
    assert page.input_value("#text") == "a blue thing"
    service.draining = True
    page.press("#text", "Enter")
    page.wait_for_selector(".problem:not([hidden]) >> text=about to stop")
    service.draining = False
    page.context.route("**/?*", lambda route: route.abort())
    page.press("#text", "Enter")
    page.wait_for_selector(".problem:not([hidden]) >> text=The server does not answer")
    assert len(shown(page)) == 24
    assert page.input_value("#text") == "a blue thing"


@pytest.mark.sweep
def test_bad_addresses_say_what_would_have_worked(window):
    for address, place, word in [
        ("?text=x&of=smell", "of", "image"),
        ("?text=x&of=image&is.lable=red", "filters", "label"),
        ("?item=image:9999&of=image", "parts", "9999"),
        ("?item=what&of=image", "parts", "image:12"),
        ("?text=x&weight=many&of=image", "parts", "many"),
    ]:
        one = window(java_script_enabled=False)
        page = one.open(address)
        said = page.inner_text(f".problem[data-place={place}]")
        assert word in said, (address, said)


def test_a_slow_answer_shows_progress_and_a_newer_one_wins(page, served, monkeypatch, searcher):
    import asyncio

    service = served[1]
    search = type(service).search
    newer = threading.Event()

    async def slow(self, parts, *args, **options):
        while parts[0].text == "slow" and not newer.is_set():
            await asyncio.sleep(0.02)
        return await search(self, parts, *args, **options)

    monkeypatch.setattr(type(service), "search", slow)
    ended = []
    page.on("requestfailed", lambda request: ended.append(request.url))
    page.fill("#text", "slow")
    page.press("#text", "Enter")
    page.wait_for_selector("#progress:not([hidden])")
    assert page.get_attribute("#found", "aria-busy") == "true"
    assert page.inner_text("#status") == "Searching…"
    ask(page, "a blue thing")
    newer.set()
    page.wait_for_timeout(500)
    assert ["text=slow" in address for address in ended] == [True]
    assert shown(page) == numbers(searcher.search({"text": "a blue thing"}, "image", 24))
    assert page.is_hidden("#progress")
    assert page.get_attribute("#found", "aria-busy") is None


def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.focus("#text")
    page.keyboard.type("a red thing")
    with answered(page):
        page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"
    page.focus(".hit .menu summary")
    page.keyboard.press("Enter")
    assert page.is_visible(".hit .menu ul")
    page.keyboard.press("Escape")
    assert page.is_hidden(".hit .menu ul")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.focus("#slider")
    page.keyboard.press("End")
    assert len(shown(page)) >= 1
    page.keyboard.press("Home")
    assert len(shown(page)) == 24
    page.focus("[name=of]:checked")
    with answered(page):
        page.keyboard.press("ArrowRight")
    width = page.evaluate("getComputedStyle(document.activeElement.closest('label')).outlineWidth")
    assert float(width.removesuffix("px")) >= 2


PAGES = [
    "",
    "?text=a+red+thing&of=image&fold=on",
    "?text=red&weight=1&item=image:3&weight=-0.5&of=audio",
    "?text=x&of=text",
    "item/3",
    "?text=x&of=smell",
    "docs",
    "nowhere",
]


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.sweep)])
def test_axe_finds_nothing_serious(window, scheme):
    from axe_playwright_python.sync_playwright import Axe

    one = window(color_scheme=scheme, reduced_motion="reduce")
    for address in PAGES:
        page = one.open(address)
        found = [
            v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical", "moderate")
        ]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == [], address


@pytest.mark.parametrize("script", [True, pytest.param(False, marks=pytest.mark.sweep)])
def test_360_pixels_need_no_sideways_scroll(window, script):
    one = window(java_script_enabled=script)
    for address in PAGES:
        page = one.open(address)
        page.set_viewport_size({"width": 360, "height": 740})
        page.evaluate("1")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def test_fingers_have_room_at_360_pixels(window):
    options = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
    page = window(**options).open("?text=red&weight=1&item=image:3&weight=-0.5&of=image")
    page.click("#filters summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, summary, label, .acts a, input[type=range]")].filter((e) => {
            const box = e.getBoundingClientRect();
            return box.width && !e.closest(".unseen") && !e.htmlFor && (box.width < 24 || box.height < 24);
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert small == []


@pytest.mark.sweep
def test_clouds_stand_still_where_motion_is_unwanted(window):
    page = window(reduced_motion="reduce").open("?text=red&of=points")
    page.wait_for_selector(".hit canvas")
    page.wait_for_timeout(300)
    before = page.evaluate("document.querySelector('.hit canvas').toDataURL()")
    page.wait_for_timeout(400)
    assert page.evaluate("document.querySelector('.hit canvas').toDataURL()") == before


@pytest.mark.slow
def test_paper_gets_the_results_alone(window):
    page = window().open("?text=red&of=image")
    page.emulate_media(media="print")
    assert page.is_visible(".hit h2")
    assert not any(page.is_visible(place) for place in (".go", ".tools", ".filters", ".bench", ".acts"))
    assert page.is_visible("#text")


@pytest.mark.sweep
def test_it_works_without_script(window, searcher):
    page = window(java_script_enabled=False).open()
    page.fill("#text", "a red thing")
    follow(page, ".go")
    assert shown(page) == numbers(searcher.search({"text": "a red thing"}, "image", 24))
    assert "text=a+red+thing" in page.url  # the form's answer has an address
    assert page.inner_text("#status") == f"24 results of {SAMPLES + 1} with image, best first."
    page.check('[name="is.label"][value=red]')
    follow(page, "#filters >> text=Apply")
    assert shown(page) == numbers(searcher.search({"text": "a red thing"}, "image", 24, where={"label": "red"}))
    follow(page, "text=Clear all filters")
    follow(page, "text=Show more")
    assert len(shown(page)) == SAMPLES + 1
    follow(page, ".hit .like")
    assert page.locator(".chip").count() == 1
    follow(page, ".chip [name=drop]")
    assert page.locator(".chip").count() == 0
    page = page.context.new_page()
    page.goto(page.context.pages[0].url.split("?")[0])
    page.set_input_files("#file", {"name": "red.png", "mimeType": "image/png", "buffer": RED})
    page.check("[name=of][value=audio]", force=True)
    follow(page, ".go")
    assert shown(page) == numbers(searcher.search({"image": RED}, "audio", 24))
    page.check("[name=of][value=points]", force=True)  # the file's embedding is in the form
    page.fill("[name=classes]", "bbb, ccc")
    follow(page, ".go")
    assert shown(page) == numbers(searcher.search({"image": RED}, "points", 24))
    assert page.locator(".shares > div").count() == 2
    assert page.evaluate("document.querySelector('.turning img').complete")
    with page.expect_download() as waiting:
        page.click("#take [value=csv]")
    assert waiting.value.suggested_filename == "found.csv"


def test_the_policy_allows_the_servers_own_files_alone(url, window):
    one = window()
    for address in ("", "?text=red&of=image", "item/3"):
        reply = one.context.request.get(f"{url}/{address}")
        policy = reply.headers["content-security-policy"]
        assert "'unsafe" not in policy
        assert "script-src 'self'" in policy
        html = reply.text()
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", html)
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", html)
    assert one.context.request.get(f"{url}/kit/../routes.py").status == 404
    assert one.context.request.get(f"{url}/kit/search/page.html").status == 404


@pytest.mark.slow
def test_words_are_never_markup(window):
    one = window()
    hostile = "<img src=x onerror=alert(1)>\"'&"
    page = one.open()
    ask(page, hostile)
    assert page.input_value("#text") == hostile
    page.reload()
    assert page.input_value("#text") == hostile
    assert page.locator("img[src=x]").count() == 0


def test_a_still_cloud_is_the_turning_ones_first_moment():
    import numpy as np
    from PIL import Image

    from align.media.cloud import cloud_face
    from align.page.still import draw_cloud

    rng = np.random.default_rng(0)
    ball = rng.normal(size=(400, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    face = cloud_face(np.hstack([ball, np.tile([1.0, 0, 0], (400, 1))]).astype(np.float32))
    drawn = np.asarray(Image.open(io.BytesIO(draw_cloud(face, side=200))))
    inside = drawn[..., 3] > 0
    v, u = np.nonzero(inside)
    assert abs(u.mean() - 100) < 3
    assert abs(v.mean() - 100) < 6
    assert drawn[inside][:, 0].mean() > 3 * drawn[inside][:, 1].mean()
    assert 150 < np.ptp(u) < 200


@pytest.mark.sweep
def test_a_model_without_an_index_says_so(browser, tmp_path):
    from served import model

    from align.serve.loaded import Loaded

    loaded = Loaded(model(), None, LIMITS)
    with serving(loaded, LIMITS) as (url, _):
        one = Window(browser, url)
        page = one.open("?text=x")
        assert "this server has a model and no index" in page.inner_text(".problem:not([hidden])").lower()
        one.context.close()


@pytest.mark.sweep
def test_time_of_the_search_is_stated(page):
    start = time.perf_counter()
    ask(page, "a red thing")
    wall = time.perf_counter() - start
    number, unit = page.inner_text("#time").split()
    assert float(number) * {"ms": 0.001, "s": 1}[unit] <= wall


@pytest.mark.sweep
def test_the_readmes_picture_is_small(url):
    import runpy

    from PIL import Image

    draw = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_picture.py"))["draw"]
    with ThreadPoolExecutor(1) as pool:  # this thread has a browser's loop already
        drawn = pool.submit(draw, url).result()
    assert len(drawn) <= 200_000
    assert Image.open(io.BytesIO(drawn)).size[0] >= 1000
    assert (Path(__file__).parents[1] / "docs" / "search-page.png").stat().st_size <= 200_000


def test_filters_list_many_classes_and_count_the_rest():
    from align.search.index import Facet
    from align.serve.page.filters import make_panels

    (panel,) = make_panels({"label": Facet("label", "text", [(f"c{i}", 2) for i in range(30)], 30)}, {}, 60)
    assert [len(panel.choices), len(panel.more), panel.unlisted] == [8, 22, 0]
    (panel,) = make_panels({"label": Facet("label", "text", [(f"c{i}", 2) for i in range(200)], 300)}, {}, 900)
    assert [len(panel.choices), len(panel.more), panel.unlisted] == [8, 192, 100]
    assert make_panels({"name": Facet("name", "text", [(f"c{i}", 1) for i in range(60)], 60)}, {}, 60) == []


@pytest.mark.sweep
def test_filters_leave_a_narrow_page_to_the_results(window):
    for script in (True, False):
        page = window(java_script_enabled=script).open("?text=red&of=image&is.label=red")
        page.set_viewport_size({"width": 360, "height": 780})
        assert page.is_hidden("#filters .tick input")
        assert page.inner_text("#filters summary") == "Filters 1"
        page.click("#filters summary")
        assert page.is_visible("#filters .tick input >> nth=0")
        page.set_viewport_size({"width": 1200, "height": 780})
        assert page.is_visible("#filters .tick input >> nth=0")


@pytest.mark.sweep
@pytest.mark.parametrize("size", [(30, 900), *(pytest.param(s, marks=pytest.mark.sweep) for s in ((900, 30), (1, 1)))])
def test_a_picture_of_any_shape_is_seen_whole(page, size):
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, (250, 10, 10)).save(out, "PNG")
    page.route("**/look/*/image/*", lambda route: route.fulfill(body=out.getvalue(), content_type="image/png"))
    page.route("**/media/image*", lambda route: route.fulfill(body=out.getvalue(), content_type="image/png"))
    for address, place in (("?item=image:3&of=image", ".hit .picture"), ("item/3", ".picture")):
        page.goto(f"{page.url.split('?')[0]}{address}")
        width = "([place, width]) => document.querySelector(place).naturalWidth === width"
        until(page, width, arg=[place, size[0]])
        edges = page.evaluate(
            """(place) => {
                const img = document.querySelector(place), inner = img.getBoundingClientRect();
                const outer = img.parentElement.getBoundingClientRect();
                return [inner.top - outer.top, outer.bottom - inner.bottom, inner.left - outer.left, inner.height];
            }""",
            place,
        )
        assert min(edges) >= 0, (address, edges)
        assert page.evaluate("(place) => getComputedStyle(document.querySelector(place)).objectFit", place) == "contain"


@pytest.mark.sweep
def test_a_long_caption_is_cut_on_a_card_and_whole_on_its_page(browser, tmp_path):
    from served import model

    from align.embedding import fingerprint
    from align.search.local import LocalIndex
    from align.search.searcher import Searcher
    from align.serve.loaded import Loaded

    made, caption = model(), "a caption that goes on " * 60 + "to its end"
    index = LocalIndex.create(tmp_path / "index", {"dim": 8, "model": {"source": "tiny", "sha256": fingerprint(made)}})
    item = Item("long", {"shard": "gone", "key": "long"}, [caption], None, {})
    index.add("text", made.embed(text=[caption])["text"], torch.tensor([0]), [item])
    with serving(Loaded(made, Searcher(index, made), LIMITS), LIMITS) as (url, _):
        one = Window(browser, url)
        page = one.open("?text=a+caption&of=text")
        assert page.locator(".hit .words").bounding_box()["height"] < 260
        assert page.text_content(".hit .words").endswith("to its end")
        assert page.get_attribute("[data-copy=text]", "data-text") == caption
        page = one.open(page.get_attribute(".hit h2 a", "href"))
        assert len(page.inner_text("h1")) <= 160
        assert page.inner_text("h1").endswith("…")
        one.context.close()


@pytest.mark.sweep
def test_captions_of_every_script_keep_their_direction(page):
    ask(page, "red")
    assert page.get_attribute("#text", "dir") == "auto"
    assert page.get_attribute(".hit h2 a", "dir") == "auto"
    page.click("#more-words")
    assert page.get_attribute(".chip input[type=text]", "dir") == "auto"


@pytest.mark.sweep
def test_a_cloud_that_cannot_be_drawn_says_so(page):
    page.route("**/look/**", lambda route: route.fulfill(status=404))
    ask(page, "red")
    with answered(page):
        page.check("input[name=of][value=points]", force=True)
    until(page, "document.querySelector('.hit .turning').textContent === 'cannot be shown'")


@pytest.mark.sweep
def test_a_browser_without_the_token_gets_a_page_that_asks_for_it(browser, tmp_path):
    from served import model

    from align.serve.loaded import Loaded

    with serving(Loaded(model(), None, LIMITS), LIMITS, token="open sesame") as (url, _):
        one = Window(browser, url)
        page = one.open()
        assert page.inner_text("h1") == "This server asks for its token"
        assert page.evaluate("getComputedStyle(document.querySelector('.refused')).maxWidth") == "560px"
        page.fill("#token", "wrong")
        follow(page, "button")
        page.fill("#token", "open sesame")
        follow(page, "button")
        assert page.url == f"{url}/"
        assert page.is_visible("#ask")
        assert "no index" in page.inner_text(".problem:not([hidden])")
        page.goto(f"{url}/nowhere")
        assert page.inner_text("h1") == "Nothing is here"
        assert one.context.request.get(f"{url}/nowhere").json()["error"]["code"] == "not_found"
        one.context.close()


@pytest.mark.slow
def test_an_empty_index_says_so(browser, tmp_path):
    from served import model

    from align.embedding import fingerprint
    from align.search.local import LocalIndex
    from align.search.searcher import Searcher
    from align.serve.loaded import Loaded

    made = model()
    about = {"dim": 8, "model": {"source": "tiny", "sha256": fingerprint(made)}}
    loaded = Loaded(made, Searcher(LocalIndex.create(tmp_path / "index", about), made), LIMITS)
    with serving(loaded, LIMITS) as (url, _):
        one = Window(browser, url)
        assert "align index add" in one.open().inner_text(".problem:not([hidden])")
        one.context.close()


def test_shapes_stand_upright_as_the_model_or_the_option_says():
    made = {"points": SimpleNamespace(up="y")}
    space: Any = SimpleNamespace(service=SimpleNamespace(up=None))
    space.service.loaded = SimpleNamespace(model=SimpleNamespace(preprocess=made))
    assert [Space.up(space, m) for m in ("points", "scan")] == ["y", "z"]
    space.service.up = "z"
    assert Space.up(space, "points") == "z"
