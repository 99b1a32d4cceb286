"""What a person sees while a run goes on: a live line in a terminal, plain lines elsewhere."""

import sys
from typing import Any, Protocol


class Progress(Protocol):
    """Receiver of a run's news."""

    def message(self, text: str) -> None:
        """A line that stays."""

    def update(self, steps: int, steps_per_second: float, episode_return: float | None) -> None:
        """Steps done so far, how fast the last ones were, and their mean episode return."""

    def close(self) -> None:
        """The run ended."""


class Silent:
    """Shows nothing."""

    def message(self, text: str) -> None:
        """Ignored."""

    def update(self, steps: int, steps_per_second: float, episode_return: float | None) -> None:
        """Ignored."""

    def close(self) -> None:
        """Nothing to close."""


class PlainLines:
    """Messages only: for logs, where a live line would be noise."""

    def message(self, text: str) -> None:
        """Print the line."""
        print(text, flush=True)

    def update(self, steps: int, steps_per_second: float, episode_return: float | None) -> None:
        """Ignored."""

    def close(self) -> None:
        """Nothing to close."""


class LiveLine:
    """One line that renews itself: bar, steps, steps per second, return, time left."""

    def __init__(self, total_steps: int, first_step: int = 0) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar: Any = Progress(
            TextColumn("{task.completed:>11,.0f} / {task.total:,.0f} steps"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]}  return {task.fields[returns]}  left"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(
            "training", total=total_steps, completed=first_step, speed="", returns="-"
        )
        self._bar.start()

    def message(self, text: str) -> None:
        """Print above the line."""
        self._bar.console.print(text, highlight=False, markup=False)

    def update(self, steps: int, steps_per_second: float, episode_return: float | None) -> None:
        """Renew the line."""
        fields = {"speed": f"{format_count(steps_per_second)} steps/s"}
        if episode_return is not None:
            fields["returns"] = f"{episode_return:.1f}"
        self._bar.update(self._task, completed=steps, **fields)

    def close(self) -> None:
        """Leave the last state of the line on the screen."""
        self._bar.stop()


def choose_progress(kind: str, total_steps: int, first_step: int) -> Progress:
    """`auto`: a live line in a terminal or notebook, else plain lines; `plain`; `none`."""
    if kind == "none":
        return Silent()
    if kind == "auto" and (sys.stdout.isatty() or "ipykernel" in sys.modules):
        return LiveLine(total_steps, first_step)
    return PlainLines()


def format_count(number: float) -> str:
    """1234567 as 1.23 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"
