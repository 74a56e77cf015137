"""The report of an evaluation in a real browser, offline: by eye of axe, by hand, by keyboard, on a phone, on paper."""

from __future__ import annotations

import pytest
from browsing import chromium
from every_section import SHAPES, confusions, sections, write

from align.page.section import Bar, Bars, Confusions, Curve, Matrix, Scatter, Section, Table, Tile

pytestmark = pytest.mark.slow
SWEEP = pytest.mark.sweep
LONG = "a_name_without_any_place_to_break_" * 8


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of one block of each kind and of two confusions: axe takes its time for each number."""
    suites, zeroshot, retrieval, probe, geometry, hubness, _ = sections()
    few = [confusions("shape", SHAPES[:6], 50, 0.8, 0), confusions("colour", SHAPES[:3], 9, 0.8, 0)]
    some = [
        suites,
        Section("Zero-shot", "", [zeroshot.blocks[0], *few], zeroshot.tiles),
        retrieval,
        Section("Geometry", "", [probe.blocks[0], *geometry.blocks[:2], geometry.blocks[3]]),
        hubness,
    ]
    return write(tmp_path_factory.mktemp("few") / "report.html", some).as_uri()


@pytest.fixture
def window(browser):
    """Open a page that nothing else may be asked for, and close it. No line may stand in its console."""
    contexts, lines = [], []

    def make(address: str, width: int = 1280, **options):
        options = {"reduced_motion": "reduce", "offline": True, **options}
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(8000)
        page.on("console", lambda line: lines.append(line.text))
        page.on("pageerror", lambda error: lines.append(str(error)))
        page.on("request", lambda request: lines.extend([request.url] if request.url.startswith("http") else []))
        page.goto(address)
        return page

    yield make
    for one in contexts:
        one.close()
    assert lines == []


def find_faults(page, **options):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options=options).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found]


@pytest.mark.parametrize("width", [400, pytest.param(1280, marks=SWEEP)])
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=SWEEP)])
def test_axe_finds_nothing(window, address, width, scheme):
    assert find_faults(window(address, width, color_scheme=scheme)) == []


@pytest.mark.parametrize("scheme", [pytest.param(s, marks=SWEEP) for s in ("light", "dark")])
def test_every_colour_of_a_heat_can_be_read(window, tmp_path, scheme):
    cells = {(f"q{level:02}", "t"): level / 20 for level in range(21)}
    ends = {pair: (0.9 * value, value) for pair, value in cells.items()}
    matrix = Matrix("", "h", "r", {"recall@10": cells}, intervals={"recall@10": ends})
    some = [Section("m", "", [matrix])]
    for level in range(1, 21):
        right = round(10_000 * (level / 20) ** 2)
        counts = [[right, 10_000 - right]] * 2
        some.append(Section(f"c{level}", "", [Confusions("c", ["a", "b"], counts)]))
    page = window(write(tmp_path / "x.html", some).as_uri(), color_scheme=scheme)
    drawn = page.evaluate("new Set([...document.querySelectorAll('.h')].map((e) => e.className)).size")
    assert drawn == 41  # 21 of the matrix and 20 right ones. The wrong ones look as those of the matrix: "h h3"
    assert find_faults(page, runOnly=["color-contrast"]) == []


CASES = [(400, True), *(pytest.param(w, s, marks=SWEEP) for w in (360, 400, 1280) for s in (True, False))]


@pytest.mark.parametrize(("width", "script"), CASES)
def test_no_width_needs_a_sideways_scroll(window, tmp_path, width, script):
    bars = [Bar(LONG, c, 0.5, interval=(0.4, 0.6)) for c in "abc"]
    wide = [
        Table([LONG, *"abcdefgh"], [[LONG, *[0.5] * 8]]),
        Bars(LONG, LONG, bars, {}),
        Confusions(LONG, [LONG, "b"], [[1, 1], [2, 3]]),
        Confusions("two", [LONG, "b"], [[1, 1], [2, 3]]),
        Matrix(LONG, LONG, LONG, {LONG: {(LONG, "b"): 0.5}}),
        Curve(LONG, LONG, LONG, {LONG: [(0, 0.5), (1, 0.75)]}),
        Scatter(LONG, {LONG: [(0, 0)], "b": [(1, 1)]}, LONG),
    ]
    path = write(tmp_path / "x.html", [*sections(), Section(LONG, LONG, wide, [Tile(LONG, 0.5, LONG, LONG)])])
    page = window(path.as_uri(), width, java_script_enabled=script)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.pinned td').getBoundingClientRect().width") < width / 2


def test_a_reader_uses_the_figures(window, address):
    page = window(address)
    page.locator(".confusions label", has_text="colour").click()
    shown = page.locator(".confusions [data-metric]:visible")
    assert shown.locator("b").first.inner_text() == "colour"
    cell = shown.locator("td[title]").first
    cell.hover()
    assert shown.locator(".said").inner_text() == cell.get_attribute("title")

    places = page.locator("figure.map").first
    name = places.locator(".legend button").nth(1)
    name.focus()
    page.keyboard.press("Enter")
    assert name.get_attribute("aria-pressed") == "false"
    assert [g.is_visible() for g in places.locator("g.s").all()[:3]] == [True, False, True]
    page.keyboard.press("Enter")
    assert places.locator("g.s").nth(1).is_visible()

    def read(title: str, key: str, times: int) -> list[str]:
        figure = page.locator("figure", has_text=title)
        figure.locator(".plot").focus()
        for _ in range(times):
            page.keyboard.press(key)
        return figure.locator(".readout div").all_inner_texts()

    said = read("Accuracy by share of labels", "ArrowLeft", 26)  # the middle of the axis is 10, not 50
    assert [" ".join(line.split()) for line in said] == [
        "share of labels, % 10", "audio 0.7 [0.67, 0.72]", "image 0.6 [0.57, 0.62]",
    ]  # fmt: skip
    said = read("image → text", "ArrowLeft", 1)
    assert said[0].startswith("cosine 0.875 to 0.9")
    assert len(said) == 3


def test_a_frame_that_scrolls_takes_the_focus(window, address):
    page = window(address, 400)
    frame = page.locator("#suites .scroll")
    page.locator("#suites .scroll[tabindex='0']").wait_for()
    frame.focus()
    before = page.locator("#suites tbody td").first.bounding_box()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert page.evaluate("document.querySelector('#suites .scroll').scrollLeft") > 40
    assert page.locator("#suites tbody td").first.bounding_box() == before  # the models stay in sight


def test_a_page_without_script_and_on_paper_has_all(window, address):
    page = window(address, java_script_enabled=False)
    assert page.locator(".grid-heat td.right:visible").count() == 6
    assert page.locator("figure.map path").first.bounding_box()["width"] > 10
    page = window(address)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert page.locator("nav").is_hidden()
