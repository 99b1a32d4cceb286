"""Scenes become the right pixels, and bad scenes meet a sentence."""

import math

import numpy as np
import pytest

from mazejax.errors import ConfigError, EnvError
from mazejax.rendering.rasterizer import rasterize
from mazejax.types import Scene, Shape

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)
SQUARE = ((2.0, 1.0), (5.0, 1.0), (5.0, 3.0), (2.0, 3.0))


def scene(*shapes, bounds=(0.0, 0.0, 10.0, 10.0), **fields):
    return Scene(bounds=bounds, shapes=shapes, **fields)


def polygon(*corners, color=RED):
    return Shape(kind="polygon", points=corners, color=color)


def is_color(picture, color):
    return (picture == color).all(axis=-1)


def test_a_rectangle_on_pixel_edges_covers_its_pixels_and_no_others():
    picture = rasterize(scene(polygon(*SQUARE)), width=10)
    expected = np.full((10, 10, 3), 255, np.uint8)
    expected[7:9, 2:5] = RED  # y from 1 to 3 is rows 7 and 8: y grows upwards
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


def test_the_order_of_corners_does_not_matter():
    first = rasterize(scene(polygon(*SQUARE)), width=10)
    np.testing.assert_array_equal(first, rasterize(scene(polygon(*SQUARE[::-1])), width=10))


def test_edges_within_a_pixel_are_shaded_by_what_they_cover():
    left_third = polygon((0, 0), (4 + 1 / 3, 0), (4 + 1 / 3, 10), (0, 10), color=(0, 0, 0))
    picture = rasterize(scene(left_third), width=10)
    assert (picture[:, :4] == 0).all() and (picture[:, 5:] == 255).all()
    assert (picture[:, 4] == 170).all()


def test_shapes_that_touch_leave_no_seam_and_do_not_overlap():
    diagonal = ((0.0, 0.7), (10.0, 9.1))
    below = polygon(*diagonal, (10, 0), (0, 0), color=(0, 0, 0))
    above = polygon(*diagonal, (10, 10), (0, 10), color=(0, 0, 0))
    assert (rasterize(scene(below, above), width=30) == 0).all()
    alone = [rasterize(scene(shape), width=30).astype(int) for shape in (below, above)]
    assert (255 - alone[0] + 255 - alone[1] == 255).all()


def test_a_polygon_with_a_notch_keeps_it_open():
    arrow = polygon((0, 0), (10, 0), (10, 10), (5, 5), (0, 10))
    picture = rasterize(scene(arrow), width=100)
    assert tuple(picture[10, 50]) == WHITE  # within the notch
    assert tuple(picture[30, 10]) == tuple(picture[30, 90]) == tuple(picture[80, 50]) == RED


def test_later_shapes_cover_earlier_ones_and_corners_show_the_background():
    big = polygon((1, 1), (9, 1), (9, 9), (1, 9))
    picture = rasterize(scene(big, polygon(*SQUARE, color=BLUE), background=(9, 8, 7)), width=50)
    assert tuple(picture[39, 17]) == BLUE and tuple(picture[10, 10]) == RED
    assert all(tuple(picture[i, j]) == (9, 8, 7) for i in (0, -1) for j in (0, -1))


def test_a_circle_has_the_area_and_the_extent_of_its_radius():
    disc = Shape(kind="circle", points=((5.0, 5.0),), color=(0, 0, 0), width=3.0)
    picture = rasterize(scene(disc), width=200)
    area = (255.0 - picture[..., 0]).sum() / 255.0 / 400.0
    assert area == pytest.approx(math.pi * 9.0, rel=1e-3)
    rows, columns = np.nonzero(picture[..., 0] < 255)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 159, 40, 159)


def test_a_line_is_as_wide_as_it_says_and_ends_where_it_ends():
    line = Shape(kind="line", points=((2.0, 5.0), (8.0, 5.0)), color=RED, width=2.0)
    picture = rasterize(scene(line), width=10)
    expected = np.full((10, 10, 3), 255, np.uint8)
    expected[4:6, 2:8] = RED
    np.testing.assert_array_equal(picture, expected)


def test_a_bent_line_is_round_at_the_bend():
    line = Shape(kind="line", points=((2, 2), (2, 8), (8, 8)), color=RED, width=2.0)
    red = is_color(rasterize(scene(line), width=100), RED)
    assert red[22, 18] and not red[10:12, 10:12].any()  # no gap, no sharp corner


def test_a_line_without_width_is_one_pixel_wide_at_any_size():
    line = Shape(kind="line", points=((0.0, 5.0), (10.0, 5.0)), color=(0, 0, 0))
    for width in (11, 101):
        picture = rasterize(scene(line), width=width)
        assert (picture[width // 2] == 0).all() and (picture < 255).sum() == 3 * width


def test_the_height_follows_from_the_bounds():
    bounds = (-2.0, 0.0, 2.0, 3.0)
    assert rasterize(scene(bounds=bounds), width=80).shape == (60, 80, 3)
    assert rasterize(scene(bounds=bounds)).shape == (450, 600, 3)


def test_another_aspect_ratio_is_centred_and_cut_at_the_bounds():
    everywhere = polygon((-99, -99), (99, -99), (99, 99), (-99, 99))
    picture = rasterize(scene(everywhere, background=BLUE), width=20, height=10)
    np.testing.assert_array_equal(is_color(picture, RED).sum(axis=0), [0] * 5 + [10] * 10 + [0] * 5)
    assert is_color(picture, BLUE).sum() == 100


def test_text_is_written_around_its_anchor_and_not_smaller_than_legible():
    for height in (2.0, 0.001):
        text = Shape(kind="text", points=((5.0, 5.0),), width=height, text="HHH")
        ink = rasterize(scene(text), width=200)[..., 0] < 128
        rows, columns = np.nonzero(ink)
        assert rows.mean() == pytest.approx(99.5, abs=3) and columns.mean() == pytest.approx(
            99.5, abs=3
        )
        assert np.ptp(rows) + 1 == pytest.approx(0.7 * max(height * 20, 10), abs=2)


def test_text_outside_and_empty_text_draw_nothing():
    for anchor, words in (((-50.0, 5.0), "far"), ((5.0, 500.0), "far"), ((5.0, 5.0), "")):
        text = Shape(kind="text", points=(anchor,), width=1.0, text=words)
        assert (rasterize(scene(text), width=50) == 255).all()


def test_letters_beyond_ascii_are_drawn_and_differ():
    def drawn(words):
        return rasterize(scene(Shape(kind="text", points=((5, 5),), width=3, text=words)), width=60)

    assert (drawn("θ") < 128).any() and (drawn("θ") != drawn("ö")).any()


def test_a_title_is_at_the_top_in_a_colour_that_shows_and_fits_the_width():
    for background, ink in ((WHITE, 0), ((20, 20, 30), 255)):
        titled = scene(background=background, title="a title that is longer than the picture is")
        rows, columns = np.nonzero(rasterize(titled, width=300)[..., 0] == ink)
        assert rows.max() < 30 and columns.min() > 0 and columns.max() < 299


def test_the_same_scene_gives_the_same_bytes():
    text = Shape(kind="text", points=((5.0, 5.0),), width=1.0, text="x = 0.25")
    shown = scene(polygon((0, 0), (9, 2), (4, 8)), text, title="step 1")
    assert rasterize(shown, 123).tobytes() == rasterize(shown, 123).tobytes()


def test_shapes_far_outside_cost_no_more_than_the_picture():
    far = polygon((-1e12, -1e12), (1e12, -1e12), (1e12, 1e12), (-1e12, 1e12))
    disc = Shape(kind="circle", points=((1e9, 0.0),), color=BLUE, width=1.0)
    text = Shape(kind="text", points=((5.0, 5.0),), width=1e9, text="x")
    assert is_color(rasterize(scene(far, disc), width=20), RED).all()
    assert rasterize(scene(text), width=20).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            Shape(kind="cirle", points=((0, 0),)),
            r"shapes\[0\].kind: got 'cirle'; did you mean 'circ",
        ),
        (
            Shape(kind="polygon", points=((0, 0), (1, 1))),
            r"got shape \(2, 2\), expected \(3 or more",
        ),
        (Shape(kind="line", points=((0, 0, 0), (1, 1, 1))), r"points are \(x, y\) pairs"),
        (Shape(kind="circle", points=()), r"expected \(1 or more, 2\) for a circle"),
        (Shape(kind="circle", points=((math.nan, 0),)), "did the state diverge"),
        (Shape(kind="circle", points=((0, 0),), width=-1.0), "a width of at least 0"),
        (Shape(kind="circle", points=((0, 0),), color=(0, 0, 256)), r"\.color: got \(0, 0, 256\)"),
    ],
)
def test_a_bad_shape_is_an_error_of_one_line(shape, message):
    with pytest.raises(EnvError, match=message) as caught:
        rasterize(scene(shape))
    assert "\n" not in str(caught.value)


def test_bad_bounds_and_sizes_are_errors():
    with pytest.raises(EnvError, match="left < right"):
        rasterize(scene(bounds=(1.0, 0.0, 1.0, 2.0)))
    with pytest.raises(EnvError, match="background"):
        rasterize(scene(background=(-1, 0, 0)))
    with pytest.raises(ConfigError, match="width=0"):
        rasterize(scene(), width=0)
