"""The blocks of an evaluation on the page and on the terminal: numbers are where a plain loop puts them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from every_section import SOUNDS, confusions, write

from align.commands.figures import list_confusions, list_curve, list_histogram, list_scatter
from align.commands.tables import lines, print_tables
from align.page.chart import BOTTOM, LEFT, RIGHT, TOP, plot
from align.page.chart_blocks import chart_of, grows_by_factors
from align.page.confusions import arrange_confusions
from align.page.numbers import write_interval
from align.page.plane import HEIGHT, WIDTH, arrange_plane
from align.page.section import (
    Bar,
    Bars,
    Block,
    Confusions,
    Curve,
    Histogram,
    Matrix,
    Measured,
    Pictures,
    Scatter,
    Section,
    Table,
    Tile,
)

NAN, INF = float("nan"), float("inf")


def page(tmp_path: Path, *blocks: Block, tiles: tuple[Tile, ...] = ()) -> str:
    """The HTML of the first section of a page with these blocks."""
    text = write(tmp_path / "x.html", [Section("S", "", blocks, tiles)]).read_text(encoding="utf-8")
    return text[: text.index('<section id="protocol">')]


def places(path: str) -> list[tuple[float, float]]:
    """The points of a path that has absolute places alone."""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0.8712, 0.9433), "[0.87, 0.94]"),
        ((0.9912, 0.9987), "[0.991, 0.999]"),
        ((0.3, 0.9), "[0.30, 0.90]"),
        ((-0.004, 0.3), "[0.00, 0.30]"),
        ((1.0, 1.0), "[1.000, 1.000]"),
        ((41.2, 47.5), "[41, 48]"),
        ((12.2, 1430.0), "[12, 1,430]"),
        ((2e-5, 4e-5), "[0.000020, 0.000040]"),
        ((NAN, 0.5), ""),
        ((0.5, INF), ""),
        (None, ""),
    ],
)
def test_an_interval_has_the_decimals_that_its_width_deserves(interval: Any, text: str) -> None:
    assert write_interval(interval) == text


def test_intervals_stand_beside_their_numbers_and_nowhere_else(tmp_path: Path) -> None:
    html = page(
        tmp_path,
        Table(["a", "b"], [[0, Measured(0.5, (0.41, 0.59))], [1, Measured(0.25)], [2, Measured(0.75, (NAN, 1.0))]]),
        Bars("r", "m", [Bar("a", "b", 0.5, 0.1, interval=(0.2, 0.7)), Bar("a", "c", 0.25)], {}),
        Matrix("", "h", "r", {"mrr": {("a", "b"): 0.5, ("b", "a"): 0.4}}, intervals={"mrr": {("a", "b"): (0.1, 0.9)}}),
        tiles=(Tile("t", 0.625, interval=(0.6, 0.7)), Tile("u", 0.125)),
    )  # fmt: skip
    found = re.findall(r'<data value="([^"]*)">[^<]*</data>(?:<small class="ends">([^<]*)</small>)?', html)
    assert [(float(value), ends) for value, ends in found] == [
        (0.625, "[0.60, 0.70]"), (0.125, ""),  # tiles
        (0.5, "[0.41, 0.59]"), (0.25, ""), (0.75, ""),  # table
        (0.5, "[0.20, 0.70]"), (0.25, ""), (0.1, ""),  # bars and chance
        (0.5, "[0.10, 0.90]"), (0.5, ""), (0.4, ""), (0.4, ""), (0.4, ""), (0.5, ""), (0.45, ""),  # matrix and means
    ]  # fmt: skip
    assert re.findall(r'<path d="([^"]*)" class="whisker"', html) == ["M20.0,3H70.0M20.0,-1V7M70.0,-1V7"]
    assert re.findall(r'<table class="([^"]*)"', html) == ["plain pinned", "bars pinned", "heat measured"]


def test_a_heat_has_the_share_of_every_row() -> None:
    block = Confusions("t", ["a", "b", "none"], [[180, 20, 0], [1, 299, 0], [0, 0, 0]])
    (panel,) = arrange_confusions([block])
    for i, row in enumerate(panel.rows):
        total = sum(block.counts[i])
        assert (row.name, row.total) == (block.names[i], total)
        for j, cell in enumerate(row.cells):
            count = block.counts[i][j]
            assert (cell.answer, cell.samples, cell.is_right) == (block.names[j], count, i == j)
            assert cell.level == (max(1, round(20 * math.sqrt(count / total))) if count else 0)
    assert [[cell.text for cell in row.cells] for row in panel.rows] == [["90", "10", ""], ["<1", "100", ""], [""] * 3]
    rare = arrange_confusions([Confusions("t", ["a", "b"], [[9999, 1], [0, 1]])])[0].rows[0].cells[1]
    assert rare.level == 1  # the palest colour, not none
    assert panel.about == ""
    assert panel.mistakes == [("a", "b", 20, 0.1), ("b", "a", 1, 1 / 300)]


def test_many_classes_show_those_in_the_most_confusions() -> None:
    block = confusions("t", [f"c{i}" for i in range(200)], 50, 0.7, 5)
    (panel,) = arrange_confusions([block])
    wrong = {}
    for i in range(200):
        given = sum(block.counts[i][j] for j in range(200) if j != i)
        got = sum(block.counts[j][i] for j in range(200) if j != i)
        wrong[f"c{i}"] = given + got
    least = sorted(wrong.values(), reverse=True)[59]
    assert len(panel.names) == 60
    assert (
        {name for name in wrong if wrong[name] > least} <= set(panel.names) <= {n for n in wrong if wrong[n] >= least}
    )
    assert panel.names == sorted(panel.names, key=lambda name: int(name[1:]))
    assert panel.about == "60 of 200 classes: those in the most confusions"
    assert {row.total for row in panel.rows} == {50}  # also the samples whose answer has no cell
    pairs = [(block.counts[i][j], i, j) for i in range(200) for j in range(200) if i != j and block.counts[i][j]]
    assert panel.pairs == len(pairs)
    assert [m.samples for m in panel.mistakes] == sorted((n for n, _, _ in pairs), reverse=True)[:10]
    few = [Confusions("", SOUNDS[:n], [[1] * n] * n) for n in (16, 17, 32, 33)]
    assert [panel.size for panel in arrange_confusions(few)] == ["large", "middle", "middle", "small"]


def test_confusions_are_chosen_by_their_place_and_say_their_cells(tmp_path: Path) -> None:
    some = Confusions("same", ["a", "<b>"], [[2, 1], [0, 3]])
    html = page(tmp_path, some, Confusions("none", ["a"], [[0]]), some)
    assert re.findall(r'<input type="radio" name="s-metric" value="(\d)"( checked)?', html) == [
        ("0", " checked"),
        ("1", ""),
    ]
    assert re.findall(r'data-metric="(\d)"( hidden)?', html) == [("0", ""), ("1", " hidden")]
    assert re.findall(r'<td class="(h [^"]*)" title="([^"]*)">([^<]*)<', html)[:3] == [
        ("h h16 right", "a → a: 2 of 3 (66.7%)", "67"),
        ("h h12", "a → &lt;b&gt;: 1 of 3 (33.3%)", "33"),
        ("h h20 right", "&lt;b&gt; → &lt;b&gt;: 3 of 3 (100.0%)", "100"),
    ]
    alone = page(tmp_path, Confusions("one", ["a", "b"], [[2, 0], [0, 3]]))
    assert "No sample was taken for another class." in alone
    assert 'class="panels' not in alone  # choice.js wants buttons there


def test_a_histogram_has_a_step_for_each_share() -> None:
    block = Histogram("h", "cosine", [0.0, 0.5, 2.0], {"p": [0.25, 0.75], "gone": [], "bad": [NAN, 1], "zero": [0, 0]})
    drawn = plot(chart_of(block))
    assert [line.name for line in drawn.lines] == ["p", "zero"]
    width, height = RIGHT - LEFT, (BOTTOM - TOP) / (1.06 * 0.75)
    corners = [(0, 0), (0, 0.25), (0.5, 0.25), (0.5, 0.75), (2, 0.75), (2, 0)]
    expected = [(LEFT + width * x / 2, BOTTOM - height * y) for x, y in corners]
    assert places(drawn.lines[0].path) == [pytest.approx(point, abs=0.051) for point in expected]
    assert drawn.lines[0].area == drawn.lines[0].path
    assert drawn.lines[0].last == ""  # the share of the last bin says nothing
    assert drawn.data["edges"] == [0, 0.5, 2]
    assert drawn.data["series"][0]["p"] == [[0.25, 0.25], [1.25, 0.75]]


@pytest.mark.parametrize("edges", [[0.5, 0.5, 0.5], [1e9, 1e9, 1e9]])
def test_equal_values_have_a_histogram(edges: list[float]) -> None:
    drawn = plot(chart_of(Histogram("h", "x", edges, {"p": [0.0, 1.0]})))
    xs = [x for x, _ in places(drawn.lines[0].path)]
    assert (min(xs), max(xs)) == (LEFT, RIGHT)


def test_a_band_lies_around_its_line() -> None:
    band = [(0, 0.4, 0.7), (1, 0.2, 0.9), (2, NAN, 0.5)]
    points = {"a": [(0, 0.5), (1, 0.6), (2, 0.7)], "b": [(0, 0.5)]}
    curve = Curve("c", "x", "y", points, {"a": band, "b": [(0, 0.4, 0.6)]})
    drawn = plot(chart_of(curve))
    area = places(drawn.lines[0].area)
    line = dict(zip((0, 1, 2), places(drawn.lines[0].path), strict=True))
    assert [x for x, _ in area] == [line[0][0], line[1][0], line[1][0], line[0][0]]
    per_unit = (line[0][1] - line[2][1]) / 0.2
    assert [y for _, y in area] == pytest.approx(
        [line[0][1] - per_unit * (end - 0.5) for end in (0.4, 0.2, 0.9, 0.7)], abs=0.3
    )
    assert all(TOP <= y <= BOTTOM for _, y in area)  # the axis has room for the band
    assert drawn.data["series"][0]["b"] == ["[0.40, 0.70]", "[0.20, 0.90]", ""]
    assert drawn.lines[1].area == ""  # one place has no area
    assert "b" not in plot(chart_of(Curve("c", "x", "y", {"a": [(0, 1), (1, 2)]}))).data["series"][0]


@pytest.mark.parametrize(
    ("xs", "grows"),
    [
        ([1, 10, 100], True), ([1, 2, 4, 8, 16], True), ([0.01, 0.1, 1], True),
        ([1, 2, 3, 4, 5], False), ([0, 1, 10, 100], False), ([1, 10], False), ([1, 2, 4], False), ([-1, 1, 10], False),
        ([1, 1.3, 10], False),
        ([2**i for i in range(11)], False),
    ],
)  # fmt: skip
def test_places_that_are_factors_apart_have_equal_steps(xs: list[float], grows: bool) -> None:
    assert grows_by_factors(xs) is grows
    drawn = plot(chart_of(Curve("c", "x", "y", {"a": [(x, 0.5) for x in xs]})))
    assert drawn.data.get("log", False) is grows
    if grows:
        steps = [LEFT + (RIGHT - LEFT) * math.log(x / xs[0]) / math.log(xs[-1] / xs[0]) for x in xs]
        assert [x for x, _ in places(drawn.lines[0].path)] == pytest.approx(steps, abs=0.06)
        assert [float(tick.text) for tick in drawn.xs] == xs


def test_a_map_has_one_unit_for_both_axes() -> None:
    groups = {"a": [(0.0, 0.0), (10.0, 0.0)], "b": [(0.0, 2.0), (NAN, 1.0), (1.0, INF)], "gone": [(NAN, 0.0)]}
    drawn = arrange_plane(Scatter("m", groups, "PCA"))
    assert [(cloud.name, cloud.points) for cloud in drawn.clouds] == [("a", 2), ("b", 1)]
    (x0, y0), (x1, y1) = places(drawn.clouds[0].path)
    ((x2, y2),) = places(drawn.clouds[1].path)
    assert y0 == y1
    assert (y0 - y2) / (x1 - x0) == pytest.approx(2 / 10, abs=0.001)
    assert x2 == x0
    assert 0 < x0 < x1 < WIDTH
    assert x1 - x0 > 0.9 * WIDTH  # the longer side fills the drawing
    assert (x0 + x1) / 2 == pytest.approx(WIDTH / 2)
    assert (y0 + y2) / 2 == pytest.approx(HEIGHT / 2)
    assert drawn.about == "PCA, 3 without a place"


def test_two_hundred_groups_and_equal_points_have_a_map() -> None:
    drawn = arrange_plane(Scatter("m", {f"g{i}": [(1e300, -5.0)] * 3 for i in range(200)}))
    assert {cloud.path.removesuffix(cloud.mark) for cloud in drawn.clouds} == {f"M{WIDTH / 2},{HEIGHT / 2}"}  # not 3
    assert [cloud.points for cloud in drawn.clouds] == [3] * 200
    styles = [cloud.style for cloud in drawn.clouds]
    assert len(set(styles)) == len(set(styles[:48])) == 48
    assert styles[12] == "g0 mark1"
    assert len({cloud.mark for cloud in drawn.clouds[24::12]}) == 3
    assert "nan" not in "".join(cloud.path for cloud in drawn.clouds)


def test_figures_stand_side_by_side(tmp_path: Path) -> None:
    figures: list[Block] = [
        Curve("c", "x", "y", {"a": [(0, 0.5), (1, 0.6)]}),
        Histogram("h", "x", [0, 1], {"a": [1.0]}),
        Scatter("m", {"<i>": [(0, 0), (1, 1)]}),
    ]
    html = page(tmp_path, *figures)
    assert html.count('<div class="charts">') == 1
    assert html.count("<figure") == 3
    assert "<title>&lt;i&gt;</title>" in html
    assert re.findall(r'aria-label="(m: [^"]*)"', html) == ["m: 2 of &lt;i&gt;"]
    assert re.findall(r'aria-label="(h: [^"]*)"', html) == ["h: share of each group, a"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: Confusions("t", ["a", "b"], [[1, 2]]),
            r"'t' has 2 names and 1 rows of \[2\] counts; C names need C rows",
        ),
        (lambda: Confusions("t", ["a"], [[1, 2]]), r"'t' has 1 names and 1 rows of \[2\] counts"),
        (lambda: Histogram("t", "x", [0, 1], {"p": [0.5, 0.5]}), "'t' has 2 edges, and 2 shares of 'p'; k bins need k"),
    ],
)
def test_a_block_of_the_wrong_shape_is_refused_where_it_is_made(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_intervals_on_a_terminal() -> None:
    bars = lines(
        "T",
        Bars("A", "accuracy", [Bar("a", "b", 0.5, 0.25, {"x": 0.9}, (0.4, 0.6)), Bar("a", "c", 0.1)], {}, more=["x"]),
    )
    assert [list(row) for row in bars.rows] == [
        ["a", "b", "0.500 [0.40, 0.60]", "0.900", "0.250"],
        ["a", "c", "0.100", "", ""],
    ]
    table = Table(["a", "b"], [["x", Measured(0.5, (0.4, 0.6))], ["y", Measured(2.0)]])
    assert [list(row) for row in lines("T", table).rows] == [["x", "0.500 [0.40, 0.60]"], ["y", "2.000"]]
    wide = Table(["m", *"abcdef"], [["x", Measured(0.5, (0.4, 0.6)), *["–"] * 5], ["y", *[0.25] * 6]])
    assert [list(row) for row in lines("T", wide).rows] == [
        ["x", "0.500", *["–"] * 5], ["", "[0.40, 0.60]", *[""] * 5], ["y", *["0.250"] * 6],
    ]  # fmt: skip
    values, ends = {("a", "b"): 0.5, ("b", "a"): 0.25}, {"mrr": {("a", "b"): (0.4, 0.6)}}
    alone = lines("T", Matrix("", "h", "r", {"mrr": values}, intervals=ends))
    assert [list(row) for row in alone.rows] == [["a", "", "0.500 [0.40, 0.60]"], ["b", "0.250", ""]]
    two = lines("T", Matrix("", "h", "r", {"mrr": values, "map": values}, intervals=ends))
    assert [list(row) for row in two.rows] == [["a", "", "0.500 / 0.500"], ["b", "0.250 / 0.250", ""]]
    five = {name: [(0, 0.5)] for name in "abcde"}
    wide = list_curve(Curve("c", "x", "y", five, {"a": [(0, 0.4, 0.6)]}))
    assert wide.rows == [["0", *["0.500"] * 5]]  # the bands of many lines are on the page alone
    curve = list_curve(Curve("c", "x", "y", {"a": [(0, 0.5), (1, 0.25)]}, {"a": [(0, 0.4, 0.6)]}))
    assert [list(row) for row in curve.rows] == [["0", "0.500 [0.40, 0.60]"], ["1", "0.250"]]


def test_figures_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    block = Confusions("shape", ["a", "b"], [[3, 1], [2, 0]])
    found = list_confusions("zero-shot", block)
    assert found.title == "zero-shot, shape: confusions, all 2"
    assert [list(row) for row in found.rows] == [["b", "a", "2", "100.0%"], ["a", "b", "1", "25.0%"]]
    assert "the 10 most frequent of" in list_confusions("z", confusions("t", SOUNDS, 40, 0.7, 0)).title
    histogram = list_histogram(
        Histogram("h", "cosine", [0, 1, 2, 3], {"p": [0.0, 0.1, 0.8], "none": [], "nan": [NAN] * 3})
    )
    assert [list(row) for row in histogram.rows] == [["p", " ▂█"], ["none", ""], ["nan", "   "]]
    assert histogram.head == ["group", "0 to 3"]
    many = list_histogram(Histogram("h", "x", list(range(101)), {"p": [0.0] * 96 + [0.25, 0.25, 0.125, 0.375]}))
    assert many.rows[0][1] == " " * 48 + "██"  # two bins a character
    assert list_scatter(Scatter("m", {"a": [(0, 0)] * 1200, "b": []}, "PCA")).rows == [["2", "1,200"]]
    print_tables([Section("Long", "", [Table(["n"], [[i] for i in range(1000)]), block])])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "long: the first 60 of 1,000 rows"
    assert out[61:65] == ["59", "", "long, shape: confusions, all 2", "class  taken for  samples   share"]


def test_the_rows_of_a_long_table_scroll_in_their_frame(tmp_path: Path) -> None:
    html = page(
        tmp_path, Table(["n"], [[i] for i in range(40)]), Bars("r", "m", [Bar(str(i), "c", 0.5) for i in range(41)], {})
    )
    assert re.findall(r'<div class="(scroll[^"]*)"', html) == ["scroll", "scroll tall"]


def test_every_figure_of_the_page_has_numbers_alone(tmp_path: Path) -> None:
    html = write(tmp_path / "all.html").read_text(encoding="utf-8")
    numbers = re.findall(r' (?:d|x|y|width|height|cx|cy|x1|x2|y1|y2|viewBox)="([^"]*)"', html)
    assert len(numbers) > 500
    assert not [text for text in numbers if re.search("nan|inf", text)]
    for data in re.findall(r'<script type="application/json">(.*?)</script>', html):
        json.loads(data)
    assert len(html) < 600_000


def test_pictures_stand_in_the_page_with_their_words(tmp_path: Path) -> None:
    pictures = Pictures([(b"one", "a <cone>"), (b"two", 'a "torus"')], "Heat maps")
    page = write(tmp_path / "r.html", [Section("Dense", "", [pictures, Pictures([], "none")])]).read_text("utf-8")
    assert '<img src="data:image/png;base64,b25l" alt="a &lt;cone&gt;">' in page
    assert "<figcaption>a &#34;torus&#34;</figcaption>" in page
    assert page.count('class="pictures"') == 1
    assert ">none<" not in page
