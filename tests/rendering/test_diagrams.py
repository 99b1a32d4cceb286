"""Diagrams become SVG and PNG; texts stay within what is measured for them."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mazejax.rendering.diagrams import Arrow, Box, Curve, Diagram, text_width, to_png, to_svg

SVG = "{http://www.w3.org/2000/svg}"


def diagram_of(*texts):
    box = Box(10, 10, 80, 60, tuple((text, 12.0, False) for text in texts), fill="#ff0000")
    return Diagram(100, 100, "title", [Curve(50, 70, 20, 90), Arrow(20, 98), box])


@pytest.mark.parametrize("is_bold", [False, True])
def test_texts_are_no_wider_than_measured(is_bold):
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(
        family="DejaVu Sans Mono", weight="bold" if is_bold else "normal", size=20
    )
    for text in ("iiii", "WWWW", "policy_head [8, 200]", "Größe"):
        assert TextPath((0, 0), text, prop=font).get_extents().x1 <= text_width(text, 20)


def test_wide_characters_count_twice_and_marks_not_at_all():
    assert text_width("\u7db2", 10) == 2 * text_width("a", 10)
    assert text_width("e\u0301", 10) == text_width("e", 10)


def test_a_document_has_a_title_a_background_and_the_size():
    root = ElementTree.fromstring(to_svg(diagram_of("torso")))
    assert root.tag == f"{SVG}svg" and root.get("version") == "1.1"
    assert root.find(f"{SVG}title").text == "title"
    background = root.find(f"{SVG}rect")
    assert (background.get("width"), background.get("height")) == ("100", "100")
    assert root.get("viewBox") == "0 0 100 100"


@pytest.mark.parametrize("text", ["<a> & \"b\" 'c'", "]]>", "<!--", "&amp;", "$x_1$", "Größe"])
def test_any_text_arrives_as_it_is(text):
    root = ElementTree.fromstring(to_svg(diagram_of(text)))
    assert [element.text for element in root.iter(f"{SVG}text")] == [text]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\ufffe", "a\nb", "\x1b"])
def test_what_no_document_can_hold_is_replaced(text):
    root = ElementTree.fromstring(to_svg(diagram_of(text)).encode())
    (element,) = root.iter(f"{SVG}text")
    assert "\ufffd" in element.text


def test_a_png_shows_the_same_at_twice_the_size():
    image = np.asarray(Image.open(io.BytesIO(to_png(diagram_of("$torso$")))).convert("RGB"))
    assert image.shape == (200, 200, 3)
    assert (image[2, 2] == 255).all() and (image[30, 100] == (255, 0, 0)).all()
    dark = (image[20:140, 20:180].max(axis=-1) < 120).sum()
    assert dark > 50  # the text


def test_a_png_of_a_giant_stays_within_what_matplotlib_draws():
    image = Image.open(io.BytesIO(to_png(Diagram(40_000, 10, "", []))))
    assert image.size[0] <= 2**15
