"""What a person sees of a run, and when nothing is shown."""

import sys

import pytest

from mazejax.errors import ConfigError
from mazejax.runners.progress import LiveLine, PlainLines, Silent, choose_progress, format_count
from mazejax.runners.settings import RunSettings, spread


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0.5"), (999, "999"), (1234, "1.23 k"), (2.5e6, "2.5 M"), (3e9, "3 G")],
)
def test_counts_are_short(number, text):
    assert format_count(number) == text


def test_the_live_line_is_for_terminals(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    line = choose_progress("auto", 100, 0)
    assert isinstance(line, LiveLine)
    line.update(50, 1234.0, 7.0)
    line.message("[brackets] stay as they are")
    line.close()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert isinstance(choose_progress("auto", 100, 0), PlainLines)
    assert isinstance(choose_progress("none", 100, 0), Silent)


def test_plain_lines_keep_messages_only(capsys):
    lines = choose_progress("plain", 100, 0)
    lines.message("compiled")
    lines.update(50, 1.0, None)
    lines.close()
    assert capsys.readouterr().out == "compiled\n"


def test_occasions_are_spread_evenly_and_the_last_update_is_one():
    assert spread(4, 12) == {3, 6, 9, 12}
    assert spread(10, 3) == {1, 2, 3}
    assert spread(1, 7) == {7}
    assert spread(0, 7) == frozenset()


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="keep_checkpoints: must be a whole number of at least 1"):
        RunSettings(keep_checkpoints=0)
    with pytest.raises(ConfigError, match=r"num_evaluations: .* got True"):
        RunSettings(num_evaluations=True)
