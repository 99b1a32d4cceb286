"""Files hold the frames that went in, and appear whole or not at all."""

import base64
import html.parser
import io
import os
import re

import numpy as np
import PIL.Image
import pytest

from mazejax.errors import ConfigError, FileError
from mazejax.rendering.frames import player_html, write_gif, write_html


def moving_square(count=7, height=20, width=30):
    frames = np.full((count, height, width, 3), (250, 251, 252), np.uint8)
    for index, frame in enumerate(frames):
        frame[5:9, index : index + 4] = (200, 30 + index, 0)
    return frames


def colorful(count=2):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 40, 30, 3)).astype(np.uint8)


def read_gif(path):
    with PIL.Image.open(path) as image:
        frames, delays = [], []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            delays.append(image.info["duration"])
        return np.array(frames), delays, image.info.get("loop")


def embedded_pictures(page):
    data = re.findall(r'^"([A-Za-z0-9+/=]+)",?$', page, flags=re.MULTILINE)
    images = [PIL.Image.open(io.BytesIO(base64.b64decode(one))) for one in data]
    return [np.asarray(image.convert("RGB")) for image in images]


def test_a_gif_gives_back_its_frames_exactly_and_loops_for_ever(tmp_path):
    write_gif(tmp_path / "a.gif", moving_square(), fps=20)
    frames, delays, loop = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(frames, moving_square())
    assert delays == [50] * 7 and loop == 0


def test_the_delays_of_a_gif_add_up_to_the_frame_rate(tmp_path):
    write_gif(tmp_path / "a.gif", moving_square(), fps=30)
    assert read_gif(tmp_path / "a.gif")[1] == [30, 40, 30, 30, 40, 30, 30]  # 233 ms in all


def test_frames_that_do_not_change_keep_their_time_in_a_gif(tmp_path):
    still = moving_square(3)[[0, 0, 0, 1, 2, 2]]
    write_gif(tmp_path / "a.gif", still, fps=10)
    frames, delays, _ = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(frames, moving_square(3))
    assert delays == [300, 100, 200]
    write_gif(tmp_path / "b.gif", still[:3], fps=10)
    assert read_gif(tmp_path / "b.gif")[1] == [300]


def test_more_colours_than_a_gif_has_are_brought_near(tmp_path):
    ramp = np.stack(np.meshgrid(np.arange(0, 256, 6), np.arange(0, 256, 6), [60]), -1)[:, :, 0]
    frames = np.stack([ramp, ramp[::-1]]).astype(np.uint8)
    write_gif(tmp_path / "a.gif", frames)
    error = np.abs(read_gif(tmp_path / "a.gif")[0].astype(int) - frames)
    assert error.max() <= 24 and error.mean() < 6


def test_frames_may_come_from_a_generator(tmp_path):
    write_gif(tmp_path / "a.gif", (frame for frame in moving_square()))
    write_html(tmp_path / "a.html", (frame for frame in moving_square()))
    assert len(read_gif(tmp_path / "a.gif")[0]) == 7
    assert len(embedded_pictures((tmp_path / "a.html").read_text())) == 7


def test_a_page_holds_all_frames_losslessly_and_asks_for_nothing_else(tmp_path):
    for frames in (moving_square(), colorful()):
        write_html(tmp_path / "a.html", frames, fps=12.5, title="run 1")
        page = (tmp_path / "a.html").read_text(encoding="utf-8")
        np.testing.assert_array_equal(embedded_pictures(page), frames)
        program = re.sub(r'^".*",?$', "", page, flags=re.MULTILINE)  # without the pictures
        assert not re.search(r"https?:|//\w|\bsrc=|\bhref=|@import|url\(|fetch\(", program)
        assert "1000 / 12.5;" in page and f'max="{len(frames) - 1}"' in page
        assert f'<canvas width="30" height="{frames.shape[1]}">' in page


def test_equal_frames_are_embedded_once_and_played_in_order():
    page = player_html(moving_square(3)[[0, 1, 0, 2, 2]])
    assert "order = [0, 1, 0, 2, 2]" in page and "last = 4" in page
    np.testing.assert_array_equal(embedded_pictures(page), moving_square(3))


def test_a_title_cannot_break_out_of_the_page():
    page = player_html(moving_square(1), title="</title><script>alert(1)</script> $$last & co")
    assert "<script>alert" not in page
    assert "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt; $$last &amp; co" in page


def test_the_page_has_its_controls_and_closes_its_tags():
    opened, closed = [], []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: opened.append(tag)
    parser.handle_endtag = closed.append
    parser.feed(player_html(moving_square(2), title="a"))
    assert {"canvas", "button", "input", "output", "h1"} <= set(opened)
    assert sorted(tag for tag in opened if tag not in ("meta", "input")) == sorted(closed)


@pytest.mark.parametrize("write", [write_gif, write_html])
@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames"),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)],
            r"frame 1 has shape \(4, 5, 3",
        ),
        ([np.zeros((4, 4, 3), np.float32)], r"frame 0 is float32\[4, 4, 3\]"),
        ([np.zeros((4, 4), np.uint8)], r"expected uint8\[height, width, 3\]"),
        ([np.zeros((0, 4, 3), np.uint8)], r"uint8\[0, 4, 3\]"),
    ],
)
def test_bad_frames_are_an_error_and_leave_no_file(tmp_path, write, frames, message):
    with pytest.raises(FileError, match=message) as caught:
        write(tmp_path / "a.out", frames)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [write_gif, write_html])
def test_a_place_that_cannot_be_written_is_an_error_before_any_frame_is_drawn(tmp_path, write):
    def frames():
        pytest.fail("a frame was drawn")
        yield

    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(FileError, match=f"there is no folder .*{folder}; create it first"):
            write(tmp_path / folder / "a.out", frames())
    with pytest.raises(FileError, match="is a folder"):
        write(tmp_path, frames())


@pytest.mark.parametrize("write", [write_gif, write_html])
def test_what_the_system_refuses_is_a_file_error_and_leaves_nothing(tmp_path, write):
    with pytest.raises(FileError, match=r"cannot write: the name is too long"):
        write(tmp_path / ("n" * 300), moving_square(1))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [write_gif, write_html])
def test_a_failure_midway_keeps_the_older_file_and_nothing_else(tmp_path, write):
    def broken():
        yield from moving_square(2)
        raise RuntimeError("the environment broke")

    path = tmp_path / "a.out"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="the environment broke"):
        write(path, broken())
    assert path.read_bytes() == b"older" and os.listdir(tmp_path) == ["a.out"]


def test_impossible_frame_rates_are_errors(tmp_path):
    for fps in (0, -1, 51, float("nan")):
        with pytest.raises(ConfigError, match="fps"):
            write_gif(tmp_path / "a.gif", moving_square(), fps=fps)
    for fps in (0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="fps"):
            player_html(moving_square(), fps=fps)
