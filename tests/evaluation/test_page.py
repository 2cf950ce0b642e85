"""The page: whole, on its own, and true to the figures; its charts to scale."""

from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from differential_diffusion.data.images import NamedImage
from differential_diffusion.errors import InputError
from differential_diffusion.evaluation import (
    Evaluation,
    Figures,
    Gallery,
    Pair,
    PairedFigures,
    PairedProtocol,
    Protocol,
    report_page,
)
from differential_diffusion.evaluation.charts import Series, line_chart, number, round_ticks
from differential_diffusion.evaluation.page import grid

VOID = {"meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Sees that tags close in order, and collects what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def result(step: int = 5, extractor: str = "pixels", frechet: float = 12.345) -> Evaluation:
    protocol = Protocol(extractor, "a" * 16, "to <16>", 9, 8, "b" * 16, 3, 4, 100, 5, 0, "0.1.0")
    figures = Figures(protocol, frechet, 0.5, 0.01, 0.9, 0.8, 1.1, 0.7, extractor == "inception")
    return Evaluation(
        "<made> & drawn", "real", (figures,), None, {"broken.png": "<cut>"}, {},
        {"solver": "heun", "steps": step, "model": "tiny"},
    )  # fmt: skip


def pictures(count: int, side: int = 6) -> tuple[NamedImage, ...]:
    rng = np.random.default_rng(count)
    return tuple(
        NamedImage(str(k), rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        for k in range(count)
    )


def test_a_page_needs_nothing_but_itself() -> None:
    shown = pictures(10)
    near = {"pixels": ((shown[0], shown[1], 0.25),)}
    gallery = Gallery(shown, shown[::-1], near)
    protocol = PairedProtocol(2, "c" * 16, 3, "alex", "0.1.0")
    pairs = (Pair("a.png", math.inf, 1.0, 0.0), Pair("b.png", 20.5, 0.5, 0.1))
    paired = PairedFigures(pairs, protocol, 2)
    made = Evaluation("a", "b", result().figures, paired, settings={"x": 1}, gallery=gallery)
    checker = checked(report_page([result(), made], metrics=[{"step": 1, "loss": 2}] * 2))
    tags = {tag for tag, _ in checker.tags}
    assert not tags & {"script", "link", "iframe", "object"}
    for _, attributes in checker.tags:
        for name in ("src", "href", "onload", "onclick"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert f"reference digest {'c' * 16}, channels 3, lpips alex" in checker.text
    page = report_page([made])
    assert not re.search(r"@import|url\(|https?://", page)
    assert "prefers-color-scheme: dark" in page


def test_names_cannot_break_out() -> None:
    page = report_page([result()], title="<b>x</b>")
    checked(page)
    for text in ("<made>", "<cut>", "to <16>", "<b>x</b>"):
        assert text not in page
        assert text in checked(page).text


def test_the_page_tells_figures_protocol_and_broken_files() -> None:
    text = checked(report_page([result()])).text
    for word in ("12.35", "0.9", "a" * 16, "b" * 16, "to <16>", "broken.png", "0.1.0", "tiny"):
        assert word in text
    assert "FID" not in text
    assert "FID" in checked(report_page([result(extractor="inception")])).text
    assert "Curves" not in text


def test_several_results_make_curves_in_order() -> None:
    page = report_page([result(20, frechet=2), result(5, frechet=8), result(10, frechet=4)])
    first = page.index("<svg")
    svg = ElementTree.fromstring(page[first : page.index("</svg>", first) + 6])
    told = [title.text for title in svg.iter("title")]
    assert told == ["heun: 5, 8", "heun: 10, 4", "heun: 20, 2"]
    steps = [result(k) for k in (1, 2)]
    trained = [
        Evaluation(r.samples, r.reference, r.figures, settings=r.settings | {"training_step": k})
        for k, r in enumerate(steps)
    ]
    assert ">training step</text>" in report_page(trained)


def embedded(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def test_pictures_are_embedded_as_they_are() -> None:
    """Small ones are enlarged by whole pixels, clear between each other."""
    shown = pictures(10)
    whole = grid(shown)
    assert whole.shape == (2 * 96 + 4, 8 * 96 + 7 * 4, 4)
    for k, image in enumerate(shown):
        top, left = k // 8 * 100, k % 8 * 100
        tile = whole[top : top + 96, left : left + 96, :3]
        np.testing.assert_array_equal(tile[8::16, 8::16], image.pixels)
    assert whole[100:, 200:, 3].max() == 0
    made = Evaluation("a", "b", result().figures, gallery=Gallery(shown, shown[:3]))
    images = embedded(report_page([made]))
    np.testing.assert_array_equal(images[0], whole)
    np.testing.assert_array_equal(images[1], grid(shown[:3]))


def test_a_tile_is_the_middle_square_in_colour() -> None:
    grey = np.zeros((10, 20, 1), np.uint8)
    grey[:, 5:15] = 200
    assert (grid([NamedImage("a", grey)])[..., :3] == 200).all()
    deep = np.full((300, 300, 5), 65535, np.uint16)
    assert (grid([NamedImage("a", deep)]) == 255).all()


def test_marks_stand_to_scale() -> None:
    points = ((0.0, 1.0), (1.0, 3.0), (4.0, 2.0))
    drawn = line_chart([Series("a", points)], x="x", y="y")
    svg = ElementTree.fromstring(drawn[drawn.index("<svg") : drawn.index("</figure>")])
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")]
    x = [c[0] for c in circles]
    y = [c[1] for c in circles]
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(1 / 4, abs=1e-3)
    assert (y[2] - y[0]) / (y[1] - y[0]) == pytest.approx(1 / 2, abs=1e-3)
    assert y[1] < y[0], "up is more"
    along = line_chart(
        [Series("a", ((5, 1), (10, 1), (40, 1)))], x="x", y="y", ticks=[5, 10, 40], logarithmic=True
    )
    x = [float(each) for each in re.findall(r'cx="([\d.]+)"', along)]
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(1 / 3, abs=1e-3)


def test_what_cannot_be_drawn_is_left_out_or_refused() -> None:
    drawn = line_chart([Series("a", ((1, math.nan), (2, 3), (3, math.inf)))], x="x", y="y")
    assert drawn.count("<circle") == 1
    for series, logarithmic in (([], False), ([Series("a", ((0, 1),))], True)):
        with pytest.raises(InputError, match="nothing to draw"):
            line_chart(series, x="x", y="y", logarithmic=logarithmic)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (3, 3), (0, 0), (-2, 7), (1e-7, 3e-7), (95, 120)]
)
def test_ticks_enclose_and_are_round(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    slack = 1e-9 * max(abs(low), abs(high), 1e-9)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    step = ticks[1] - ticks[0]
    first = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(first - k) for k in (1, 2, 2.5, 5)) < 1e-6


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.inf, "∞"), (0, "0"), (12.3456, "12.35"), (0.5, "0.5"), (100, "100"),
     (1234.4, "1234"), (0.00012, "1.20e-04"), (-3.0, "-3"), (1e9, "1.00e+09")],
)  # fmt: skip
def test_figures_have_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text
