"""The raw event log: what was fired, when and in which episode, as tables and as TSV files.

One file for each event, `event_logs/<Topic>.<event>.tsv`, with a row for every firing, and
`event_logs/episodes.tsv` with a row for every episode that is whole in all of them.
How episodes are played stands in `event_recording`.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mazejax import files, random
from mazejax.errors import EnvError, FileError
from mazejax.runners.appended_file import AppendedFile
from mazejax.types import Key

FOLDER = "event_logs"
"""Of a run's directory, where the files are."""

EPISODES_FILE = "episodes.tsv"

MAX_TABLE_BYTES = 2**32
"""Largest file that is continued."""


class EventTable(NamedTuple):
    """Firings of one event, in the order of episodes, of time, and of firing."""

    episode_id: np.ndarray
    """[R] texts of `episode_id`."""
    env_time: np.ndarray
    """Flat steps since the reset, 0 of the first step and of the reset, int32 [R]."""
    attributes: dict[str, np.ndarray]
    """What the firings said, [R, ...] by name; of categories that are called something the
    names."""

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """[R] each, as in the file: of an attribute that is an array one for each entry."""
        own = {"episode_id": self.episode_id, "env_time": self.env_time}
        for name, values in sorted(self.attributes.items()):
            for column, index in _entries(name, values.shape[1:]):
                if column in own:
                    raise EnvError(f"event attribute {name!r}: a second column {column!r}")
                own[column] = np.moveaxis(values, 0, -1)[index]
        return own

    def rows_of(self, episodes: np.ndarray) -> "EventTable":
        """The rows of these episodes."""
        rows = np.flatnonzero(np.isin(self.episode_id, episodes))
        return EventTable(
            self.episode_id[rows],
            self.env_time[rows],
            {name: values[rows] for name, values in self.attributes.items()},
        )


class EpisodeTable(NamedTuple):
    """Outcomes of E episodes, [E] each."""

    episode_id: np.ndarray
    length: np.ndarray
    """Flat steps, int32."""
    terminated: np.ndarray
    """bool."""
    truncated: np.ndarray
    """bool; false of both where the allowed steps did not suffice."""
    episode_return: np.ndarray
    """Sum of all rewards, float32."""
    lost_firings: np.ndarray
    """Firings of all events beyond what a step keeps, which are in no table; int64."""


def episode_id(key: Key) -> str:
    """Name of the episode of this key, such as `ep-d1ed9aed33be2439`: the key's two words.

    It depends on nothing else, so that it is the same in event logs, in statistics and of
    the key in an episode file. Of keys of another implementation its name is a part of it.
    """
    return str(episode_ids(key[None])[0])


def episode_ids(keys: Key) -> np.ndarray:
    """Names of the episodes of these keys, texts [E]."""
    name = random.impl_name(keys)
    # It begins with a letter, for digits with an "e" among them would be read as a number.
    prefix = "ep-" if name == random.DEFAULT_IMPL else f"ep-{name}-"
    words = np.asarray(jax.random.key_data(keys), np.uint32).tolist()
    return np.array([prefix + "".join(f"{word:08x}" for word in row) for row in words])


class EventFiles:
    """TSV files to which episodes are appended.

    A folder that has them is continued: rows of an episode that a killed process did not
    complete are dropped first. Raises FileError for files of events with other attributes.
    """

    def __init__(self, directory: str | os.PathLike) -> None:
        self._folder = Path(directory) / FOLDER
        files.make_folder(self._folder)
        self._episodes = self._folder / EPISODES_FILE
        self._files: dict[str, AppendedFile] = {}
        self._known = _complete_episodes(self._episodes)

    def check_new(self, ids: np.ndarray) -> None:
        """Raise FileError for an episode that the files hold already."""
        known = self._known.intersection(ids.tolist())
        if known:
            raise FileError(
                f"{self._folder}: holds the episode {min(known)} already; choose another seed or "
                f"another directory"
            )

    def append(self, episodes: EpisodeTable, tables: Mapping[str, EventTable]) -> None:
        """Append whole episodes with all that was fired in them; tables are by `Topic.event`."""
        self.check_new(episodes.episode_id)
        for event, table in tables.items():
            self._append(self._folder / f"{event.replace('/', '.')}.tsv", table.columns)
        self._append(self._episodes, episodes._asdict())  # last: it says that they are whole
        self._known.update(episodes.episode_id.tolist())

    def close(self) -> None:
        """Bring all to the disk and let go of the files."""
        for file in self._files.values():
            file.close()

    def _append(self, path: Path, columns: Mapping[str, np.ndarray]) -> None:
        if path.name not in self._files:
            _prepare(path, tuple(columns), self._known)
            self._files[path.name] = AppendedFile(path)
        self._files[path.name].append(_lines(columns))


def _entries(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(column, index) of every entry of an attribute: `piece_0`, `piece_1`; of a scalar `name`."""
    for index in np.ndindex(*shape):
        yield "_".join([name, *map(str, index)]), index


def _lines(columns: Mapping[str, np.ndarray]) -> bytes:
    """Rows, of floats as many digits as tell them from their neighbours."""
    text = io.StringIO()
    rows = zip(*(values.astype(str).tolist() for values in columns.values()), strict=True)
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _content(path: Path) -> bytes:
    cap = "mazejax.runners.event_files.MAX_TABLE_BYTES"
    return files.read_bytes(path, MAX_TABLE_BYTES, cap)


def _complete_episodes(path: Path) -> set[str]:
    """Ids of the episodes that a folder holds."""
    if not path.exists():
        return set()
    content = _content(path)
    whole = content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines()
    return {line.split("\t")[0] for line in whole[1:]}


def _prepare(path: Path, header: tuple[str, ...], complete: set[str]) -> None:
    """Write the header to a new file; of an old one drop rows of incomplete episodes."""
    first = ("\t".join(header) + "\n").encode()
    if not path.exists():
        files.write_bytes(path, first)
        return
    content = _content(path)
    if not content.startswith(first):
        raise FileError(
            f"{path}: has other columns than {', '.join(header)}; choose another directory"
        )
    lines = content[len(first) : content.rfind(b"\n") + 1].splitlines(keepends=True)
    ids = {name.encode() for name in complete}
    kept = first + b"".join(line for line in lines if line.split(b"\t", 1)[0] in ids)
    if kept != content:
        files.write_bytes(path, kept)
