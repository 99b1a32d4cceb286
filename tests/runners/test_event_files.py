"""Tests of mazejax.runners.event_files."""

import csv

import jax
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import EnvError, FileError
from mazejax.runners.event_files import (
    EPISODES_FILE,
    FOLDER,
    EpisodeTable,
    EventFiles,
    EventTable,
    episode_id,
    episode_ids,
)

IDS = [f"ep-{i:016x}" for i in range(6)]
CUT, DONE = "CuttingEvents.valid_cut", "CuttingEvents.done"


def episodes(*ids):
    numbers = np.arange(len(ids))
    ended = numbers % 2 == 0
    returns = (numbers / 10).astype(np.float32)
    length = numbers.astype(np.int32)
    return EpisodeTable(np.array(ids), length, ended, ~ended, returns, numbers * 0)


def tables(*ids):
    """Of each episode two cuts, at times 0 and 7, and one firing that says nothing."""
    twice = np.repeat(ids, 2)
    size = np.arange(2 * len(twice), dtype=np.int32).reshape(-1, 2)
    cost = (np.arange(len(twice)) / np.float32(10)).astype(np.float32)
    cuts = EventTable(twice, np.tile(np.int32([0, 7]), len(ids)), {"size": size, "cost": cost})
    return {CUT: cuts, DONE: EventTable(np.array(ids), np.zeros(len(ids), np.int32), {})}


def write(directory, *ids):
    writer = EventFiles(directory)
    writer.append(episodes(*ids), tables(*ids))
    writer.close()


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def ids_in(directory):
    """Ids by file."""
    paths = sorted((directory / FOLDER).iterdir())
    return {path.name: [row["episode_id"] for row in read(path)] for path in paths}


def test_every_event_has_a_file_with_sorted_attributes_and_a_row_for_every_firing(tmp_path):
    write(tmp_path, *IDS[:2])
    path = tmp_path / FOLDER / f"{CUT}.tsv"
    header = path.read_text().splitlines()[0]
    assert header.split("\t") == ["episode_id", "env_time", "cost", "size_0", "size_1"]
    rows = read(path)
    assert rows[1] == {
        "episode_id": IDS[0],
        "env_time": "7",
        "cost": "0.1",
        "size_0": "2",
        "size_1": "3",
    }
    costs = np.array([row["cost"] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(costs, tables(*IDS[:2])[CUT].attributes["cost"])
    assert read(tmp_path / FOLDER / f"{DONE}.tsv") == [
        {"episode_id": name, "env_time": "0"} for name in IDS[:2]
    ]
    assert read(tmp_path / FOLDER / EPISODES_FILE)[1] == {
        "episode_id": IDS[1],
        "length": "1",
        "terminated": "False",
        "truncated": "True",
        "episode_return": "0.1",
        "lost_firings": "0",
    }


def test_arrays_have_a_column_for_every_entry_in_the_order_of_the_entries():
    values = np.arange(24).reshape(2, 12)
    table = EventTable(np.array(IDS[:2]), np.zeros(2, np.int32), {"x": values})
    assert list(table.columns)[2:] == [f"x_{i}" for i in range(12)]
    np.testing.assert_array_equal(table.columns["x_10"], [10, 22])
    matrix = EventTable(*table[:2], {"m": values.reshape(2, 3, 4)})
    assert list(matrix.columns)[2:5] == ["m_0_0", "m_0_1", "m_0_2"]
    np.testing.assert_array_equal(matrix.columns["m_2_1"], [9, 21])
    twice = EventTable(*table[:2], {"x": values, "x_1": values[:, 0]})
    with pytest.raises(EnvError, match="'x_1': a second column 'x_1'"):
        _ = twice.columns


def test_labels_of_an_event_are_part_of_the_file_name_and_texts_are_quoted(tmp_path):
    way = {"way": np.array(["a\tb", 'c"d'])}
    table = EventTable(np.array(IDS[:2]), np.zeros(2, np.int32), way)
    writer = EventFiles(tmp_path)
    writer.append(episodes(*IDS[:2]), {"ActionEvents.discrete_action/select": table})
    writer.close()
    rows = read(tmp_path / FOLDER / "ActionEvents.discrete_action.select.tsv")
    assert [row["way"] for row in rows] == ["a\tb", 'c"d']


def test_rows_of_some_episodes_can_be_taken():
    table = tables(*IDS)[CUT].rows_of(np.array([IDS[4], IDS[1]]))
    assert table.episode_id.tolist() == [IDS[1]] * 2 + [IDS[4]] * 2
    assert table.attributes["size"][:, 0].tolist() == [4, 6, 16, 18]


def test_episodes_are_appended_to_those_that_are_there(tmp_path):
    write(tmp_path, *IDS[:2])
    write(tmp_path, *IDS[2:4])
    found = ids_in(tmp_path)
    assert found[EPISODES_FILE] == found[f"{DONE}.tsv"] == IDS[:4]
    assert found[f"{CUT}.tsv"] == np.repeat(IDS[:4], 2).tolist()


def test_an_episode_is_not_written_twice(tmp_path):
    write(tmp_path, *IDS[:2])
    with pytest.raises(FileError, match=f"holds the episode {IDS[1]} already"):
        write(tmp_path, *IDS[1:3])
    assert ids_in(tmp_path)[EPISODES_FILE] == IDS[:2]


def test_what_a_kill_left_incomplete_is_dropped_wherever_it_came(tmp_path):
    write(tmp_path, IDS[0])
    paths = sorted((tmp_path / FOLDER).iterdir())
    before = [path.read_bytes() for path in paths]
    write(tmp_path, IDS[1])
    after = [path.read_bytes() for path in paths]
    order = [paths.index(tmp_path / FOLDER / name) for name in (f"{CUT}.tsv", f"{DONE}.tsv")]
    order.append(paths.index(tmp_path / FOLDER / EPISODES_FILE))
    for which, file in enumerate(order):  # files before are written, files behind are not
        for end in range(len(before[file]), len(after[file]), 5):
            for i, path in enumerate(paths):
                path.write_bytes(after[i] if i in order[:which] else before[i])
            paths[file].write_bytes(after[file][:end])
            write(tmp_path, IDS[2])
            assert ids_in(tmp_path) == {
                f"{CUT}.tsv": [IDS[0]] * 2 + [IDS[2]] * 2,
                f"{DONE}.tsv": [IDS[0], IDS[2]],
                EPISODES_FILE: [IDS[0], IDS[2]],
            }


def test_events_that_say_something_else_are_refused(tmp_path):
    write(tmp_path, IDS[0])
    writer = EventFiles(tmp_path)
    other = {CUT: tables(IDS[1])[CUT]._replace(attributes={})}
    with pytest.raises(FileError, match="has other columns than episode_id, env_time; choose"):
        writer.append(episodes(IDS[1]), other)
    writer.close()


def test_ids_are_those_of_the_key_and_never_read_as_numbers(tmp_path):
    keys = jax.random.split(random.key(0), 3)
    words = np.asarray(jax.random.key_data(keys))
    assert episode_ids(keys).tolist() == [f"ep-{a:08x}{b:08x}" for a, b in words.tolist()]
    assert [episode_id(key) for key in keys] == episode_ids(keys).tolist()
    assert episode_id(random.wrap_words(np.uint32([1, 2]))) == "ep-0000000100000002"
    assert episode_id(random.key(1, "threefry2x32")).startswith("ep-threefry2x32-")


def test_pandas_reads_the_types_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    write(tmp_path, *IDS[:3])
    frame = pandas.read_csv(tmp_path / FOLDER / f"{CUT}.tsv", sep="\t")
    assert frame["episode_id"].tolist() == np.repeat(IDS[:3], 2).tolist()
    table = tables(*IDS[:3])[CUT]
    np.testing.assert_array_equal(frame["cost"].astype(np.float32), table.attributes["cost"])
    np.testing.assert_array_equal(frame[["size_0", "size_1"]], table.attributes["size"])
    ended = pandas.read_csv(tmp_path / FOLDER / EPISODES_FILE, sep="\t")
    assert ended["terminated"].dtype == bool
    merged = frame.merge(ended, on="episode_id")
    assert len(merged) == 6
