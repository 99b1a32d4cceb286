"""Files from frames: an animated GIF, or one HTML page that plays them in any browser.

Frames are taken one at a time, so that a generator may draw them on the way, and a file
appears under its name only when it is whole. Where the frames come from (`rasterize`, a
Gymnasium environment) is not asked.
"""

import base64
import html
import io
import itertools
import os
import string
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mazejax.errors import ConfigError, FileError
from mazejax.files import atomic_file

FASTEST_GIF = 50
"""Frames per second; browsers slow GIFs with delays under 2 hundredths of a second to 10."""


def write_gif(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Write frames, [H, W, 3] uint8 each, as a GIF that loops for ever.

    Every frame has a palette of its own: exact up to 256 colours. Delays are whole
    hundredths of a second that add up to the rate; frames that do not differ from the one
    before are stored as a longer delay.
    """
    from PIL import Image

    if not 0 < fps <= FASTEST_GIF:
        raise ConfigError(
            f"write_gif: got fps={fps}, expected more than 0 and at most {FASTEST_GIF}, as "
            f"players slow down faster ones; take frames[::2] at half the rate, or write_html"
        )

    def as_image(index: int, frame: np.ndarray) -> Any:
        image = Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
        delay = round(100 * (index + 1) / fps) - round(100 * index / fps)
        image.info["duration"] = 10 * delay  # milliseconds
        return image

    with atomic_file(path) as file:
        images = itertools.starmap(as_image, enumerate(_checked(frames, path)))
        first = next(images)
        first.save(file, "GIF", save_all=True, append_images=images, loop=0)


def write_html(
    path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float = 30, title: str = ""
) -> None:
    """Write `player_html` of the frames, [H, W, 3] uint8 each, as a file."""
    with atomic_file(path) as file:
        file.write(player_html(_checked(frames, path), fps, title).encode())


def player_html(frames: Iterable[np.ndarray], fps: float = 30, title: str = "") -> str:
    """A page that plays frames, [H, W, 3] uint8 each, and needs nothing but itself.

    It has a button, a slider, a step counter, and keys: space, left, right. Frames are
    embedded losslessly as PNG, equal ones once.
    """
    if not 0 < fps < float("inf"):
        raise ConfigError(f"player_html: got fps={fps}, expected a positive number")
    pictures: dict[str, int] = {}
    order = []
    height = width = 0
    for frame in _checked(frames, "player_html"):
        height, width, _ = frame.shape
        order.append(pictures.setdefault(_png_base64(frame), len(pictures)))
    return _PLAYER.substitute(
        title=html.escape(title or "mazejax"),
        heading=f"<h1>{html.escape(title)}</h1>" if title else "",
        width=width,
        height=height,
        last=len(order) - 1,
        fps=float(fps),
        order=order,
        pictures=",\n".join(f'"{picture}"' for picture in pictures),
    )


def _checked(frames: Iterable[np.ndarray], where: Any) -> Iterator[np.ndarray]:
    shape: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise FileError(
                f"{where}: frame {index} is {frame.dtype}{list(frame.shape)}, expected "
                f"uint8[height, width, 3]; mazejax.rendering.rasterize makes such frames"
            )
        shape = shape or frame.shape
        if frame.shape != shape:
            raise FileError(
                f"{where}: frame {index} has shape {frame.shape}, the first has {shape}, expected "
                f"one shape; draw all scenes with the same width and height"
            )
        yield frame
    if shape is None:
        raise FileError(f"{where}: got no frames, expected at least one; is the rollout empty?")


def _png_base64(frame: np.ndarray) -> str:
    from PIL import Image

    image = Image.fromarray(frame)
    if image.getcolors(256):
        # A palette loses nothing then, and takes a third of the bytes.
        image = image.quantize(256, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


_PLAYER = string.Template("""\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem;
         width: fit-content; max-width: 95vw; }
  h1 { font-size: 1.1rem; font-weight: 600; margin: 0 0 .6rem; }
  canvas { display: block; max-width: 100%; border: 1px solid #8884; border-radius: 4px; }
  .controls { display: flex; align-items: center; gap: .8rem; margin-top: .6rem; }
  button { font: inherit; width: 5rem; padding: .25rem 0; }
  input { flex: 1; min-width: 0; }
  output { font-variant-numeric: tabular-nums; white-space: nowrap; }
</style>
$heading
<canvas width="$width" height="$height"></canvas>
<div class="controls">
  <button type="button">Play</button>
  <input type="range" min="0" max="$last" value="0" step="1" aria-label="step">
  <output></output>
</div>
<script>
"use strict";
const order = $order, last = $last, interval = 1000 / $fps;
const pictures = [
$pictures
].map((data) => {
  const picture = new Image();
  picture.src = "data:image/png;base64," + data;
  return picture;
});
const [canvas, button, slider, counter] =
  ["canvas", "button", "input", "output"].map((name) => document.querySelector(name));
const context = canvas.getContext("2d");
let step = 0, playing = false, timer = 0, due = 0;

function show(wanted) {
  step = (wanted + last + 1) % (last + 1);
  slider.value = step;
  counter.textContent = "step " + step + " / " + last;
  const now = step, picture = pictures[order[now]];
  picture.decode().then(() => { if (step === now) context.drawImage(picture, 0, 0); });
}
function play(wanted) {
  playing = wanted;
  button.textContent = playing ? "Pause" : "Play";
  clearTimeout(timer);
  due = performance.now() + interval;
  if (playing) timer = setTimeout(tick, interval);
}
function tick() {
  // A slow or hidden page skips steps, so that the rate holds.
  const behind = Math.max(1, Math.floor((performance.now() - due) / interval) + 1);
  due += behind * interval;
  show(step + behind % (last + 1));
  timer = setTimeout(tick, due - performance.now());
}
button.addEventListener("click", () => play(!playing));
slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
document.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (move) {
    play(false);
    show(step + move);
    event.preventDefault();
  } else if (event.key === " " && event.target !== button) {
    play(!playing);
    event.preventDefault();
  }
});
show(0);
play(last > 0);
</script>
</html>
""")
