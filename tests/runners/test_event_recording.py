"""Tests of mazejax.runners.event_recording."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.base import static
from mazejax.envs import keys
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.envs.cutting2d.policies import GreedyPolicy
from mazejax.envs.episode import play, random_policy
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, EnvError
from mazejax.events import Attribute, Event, EventLog, Topic
from mazejax.events.builtin import BaseEnvEvents
from mazejax.runners import event_playing
from mazejax.runners.event_files import EPISODES_FILE, FOLDER, episode_ids
from mazejax.runners.event_playing import trained_policy
from mazejax.runners.event_recording import record_events
from mazejax.spaces import Box, Discrete
from mazejax.trajectories.episode_file import read_episode, save_episode
from tests.envs.convoy import CONVOY, ConvoyEvents

CUTTING = {
    structured: mazejax.make("Cutting2D-v0", structured=structured, max_pieces=4)
    for structured in (False, True)
}
ROOT, EPISODES, STEPS = random.key(3), 5, 20


class BurstEvents(Topic):
    burst = Event("At time t, t times.", {"share": Attribute(), "odd": Attribute((), "bool")}, 2)
    tick = Event("Every time twice.")
    turn = Event("Which way.", {"way": Attribute((), "int32", categories=("left", "right"))})


class Bursts(Env):
    """Ends after `length` steps; fires more often than there is room for."""

    length: int = static(default=5)

    observation_space = Box(0.0, 100.0, ())
    action_space = Discrete(2)

    def reset_state(self, key):
        return jnp.zeros((), jnp.int32)

    def observe(self, state):
        return state.astype(jnp.float32)

    def time(self, state):
        return state

    def step_state(self, key, state, action):
        each = jnp.arange(8)
        events = EventLog.empty(BurstEvents).fire_each(
            BurstEvents.burst, each < state, share=each / 10, odd=each % 2 == 1
        )
        events = events.fire(BurstEvents.tick).fire(BurstEvents.tick)
        events = events.fire(BurstEvents.turn, way=state)
        ended = state + 1 >= self.length
        return StateStep(state + 1, jnp.float32(0.5), ended, flag(), {"events": events})


def episode_keys(num=EPISODES, root=ROOT):
    return [keys.episode_key(root, np.uint32(i), np.uint32(0)) for i in range(num)]


@functools.cache
def compiled_loop(env, policy):
    """The reset, and one step of every sub-step's policy and env."""

    def step(policy_key, env_key, obs, state):
        action = policy(policy_key, obs, env.maze_state(state), env.actor_id(state))
        return env.step(env_key, state, action)

    return jax.jit(env.reset), [jax.jit(step)] * len(env.actors)


def loop(env, policy, key, num_steps):
    """(Topic.event -> rows [env_time, *columns], length, return) of one episode in plain Python."""
    rows, total = {}, np.float32(0)
    reset, steps = compiled_loop(env, policy)
    obs, state = reset(keys.reset_key(key))
    for t in range(num_steps):
        for i, step in enumerate(steps):
            draws = [keys.moment_key(key, t, i, name) for name in ("policy", "env")]
            obs, state, reward, terminated, truncated, info = step(*draws, obs, state)
            total += np.sum(reward, dtype=np.float32)
            for name, firings in info["events"].firings.items():
                for slot in range(int(firings.count)):
                    said = sorted(firings.attributes.items())
                    values = [np.asarray(values[slot]).ravel() for _, values in said]
                    rows.setdefault(name, []).append([t, *np.concatenate([[], *values]).tolist()])
        if terminated or truncated:
            break
    return rows, t + 1, total


@pytest.mark.parametrize("structured", [False, True])
def test_files_hold_what_a_plain_loop_over_the_steps_sees(tmp_path, structured):
    env, policy = CUTTING[structured], random_policy(CUTTING[structured])
    recorded = record_events(env, policy, ROOT, EPISODES, STEPS, tmp_path)
    episodes = list(csv.DictReader(open_table(tmp_path, EPISODES_FILE), delimiter="\t"))
    seen = set()
    for i, key in enumerate(episode_keys()):
        rows, length, total = loop(env, policy, key, STEPS)
        (name,) = episode_ids(key[None])
        assert episodes[i]["episode_id"] == name
        assert (int(episodes[i]["length"]), float(episodes[i]["episode_return"])) == (length, total)
        for event, table in recorded.tables.items():
            if event == BaseEnvEvents.kpi.id:
                continue
            _, *lines = csv.reader(open_table(tmp_path, f"{event}.tsv"), delimiter="\t")
            mine = [[float(x) for x in line[1:]] for line in lines if line[0] == name]
            assert mine == rows.get(event, [])
            columns = table.rows_of([name]).columns
            assert np.stack(list(columns.values())[1:], -1).tolist() == mine or not mine
            seen |= {event} & rows.keys()
    assert {CuttingEvents.valid_cut.id, InventoryEvents.piece_replenished.id} <= seen
    # The reset's event counts to the first step, and once.
    table = recorded[InventoryEvents.piece_replenished]
    assert all((table.rows_of([name]).env_time == 0).any() for name in recorded.episodes.episode_id)


def open_table(directory, name):
    return (directory / FOLDER / name).read_text().splitlines()


def test_agents_at_once_and_ends_within_a_flat_step_are_as_played():
    policy = random_policy(CONVOY)
    recorded = record_events(CONVOY, policy, ROOT, 12, 40)
    every = jnp.stack(episode_keys(12))
    played = jax.device_get(jax.jit(jax.vmap(lambda key: play(CONVOY, policy, key, 40)))(every))
    np.testing.assert_array_equal(recorded.episodes.length, played.length)
    np.testing.assert_array_equal(recorded.episodes.terminated, played.terminated)
    np.testing.assert_array_equal(recorded.episodes.truncated, played.truncated)
    np.testing.assert_array_equal(recorded.episodes.episode_return, jax.vmap(returns)(played))
    rows = []
    for i, name in enumerate(episode_ids(every)):
        for t in range(played.length[i]):
            for substep in played.substeps:
                stranded = substep.info["events"][ConvoyEvents.stranded]
                cars = stranded.attributes["car"][i, t, : stranded.count[i, t]]
                rows += [(name, t, car) for car in cars.tolist()]
    table = recorded[ConvoyEvents.stranded]
    assert list(zip(*(c.tolist() for c in table.columns.values()), strict=True)) == rows
    fuelled = recorded[ConvoyEvents.fuelled]
    assert fuelled.env_time.tolist() == [0] * 12 and fuelled.attributes["fuel"].shape == (12, 3)
    assert fuelled.attributes["fuel"].dtype == np.int8


def returns(episode):
    return episode.episode_return


def test_neither_batches_nor_chunks_change_what_is_recorded(monkeypatch, tmp_path):
    policy = random_policy(CONVOY)
    whole = record_events(CONVOY, policy, ROOT, 5, 23)
    monkeypatch.setattr(event_playing, "MAX_EPISODES", 2)
    monkeypatch.setattr(event_playing, "MAX_STEPS", 7)
    parts = record_events(CONVOY, policy, ROOT, 5, 23, tmp_path)
    for mine, theirs in zip(
        jax.tree.leaves(parts.tables), jax.tree.leaves(whole.tables), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(parts.episodes, whole.episodes, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert parts.lost == whole.lost
    assert len(open_table(tmp_path, EPISODES_FILE)) == 1 + 5
    monkeypatch.setattr(event_playing, "MAX_LOG_BYTES", 1)  # one step at a time
    one_step = record_events(CONVOY, policy, ROOT, 2, 9)
    assert one_step[ConvoyEvents.fuelled].env_time.tolist() == [0, 0]


def test_what_finds_no_slot_is_counted_as_lost():
    recorded = record_events(Bursts(), lambda *_: jnp.int32(0), ROOT, 3)
    burst = recorded[BurstEvents.burst]
    one = burst.rows_of(recorded.episodes.episode_id[1:2])
    assert one.env_time.tolist() == [1, 2, 2, 3, 3, 4, 4]
    assert one.attributes["odd"].tolist() == [False, False, True, False, True, False, True]
    np.testing.assert_array_equal(one.attributes["share"], np.float32([0, 0, 0.1] + [0, 0.1] * 2))
    assert {name: lost for name, lost in recorded.lost.items() if lost} == {"BurstEvents.burst": 9}
    assert recorded.episodes.lost_firings.tolist() == [3, 3, 3]
    assert len(recorded[BurstEvents.tick].env_time) == 3 * 5 * 2  # nothing said, nothing lost
    assert "BurstEvents.burst: 21 firings, 9 lost" in repr(recorded)


def test_categories_with_names_are_recorded_by_name(tmp_path):
    recorded = record_events(Bursts(), lambda *_: jnp.int32(0), ROOT, 1, directory=tmp_path)
    # What is no category stays the number that it is.
    assert recorded[BurstEvents.turn].attributes["way"].tolist() == ["left", "right", *"234"]
    lines = open_table(tmp_path, "BurstEvents.turn.tsv")
    assert [line.split("\t")[1:] for line in lines[:3]] == [
        ["env_time", "way"],
        ["0", "left"],
        ["1", "right"],
    ]


def test_an_episode_counts_as_far_as_it_came():
    recorded = record_events(Bursts(), lambda *_: jnp.int32(0), ROOT, 2, max_steps=3)
    assert recorded[BurstEvents.tick].env_time.tolist() == [0, 0, 1, 1, 2, 2] * 2
    episodes = recorded.episodes
    assert episodes.length.tolist() == [3, 3] and episodes.episode_return.tolist() == [1.5, 1.5]
    assert not (episodes.terminated | episodes.truncated).any()


def test_ids_are_the_same_in_event_logs_in_vector_envs_and_in_episode_files(tmp_path):
    env, policy = CONVOY, random_policy(CONVOY)
    recorded = record_events(env, policy, ROOT, 3, 8)
    vector = VectorEnv(env, 3)
    running = vector.episode_keys(vector.reset(ROOT)[1])
    assert episode_ids(running).tolist() == recorded.episodes.episode_id.tolist()
    episode = jax.jit(lambda key: play(env, policy, key, 8))(running[1])
    save_episode(tmp_path / "episode", episode, env)
    key = read_episode(tmp_path / "episode").key
    assert episode_ids(key[None]).tolist() == [recorded.episodes.episode_id[1]]
    np.testing.assert_allclose(episode.episode_return, recorded.episodes.episode_return[1])


@pytest.mark.parametrize(
    ("name", "parameters", "recurrence"),
    [
        ("Cutting2D-v0", {"structured": True, "max_pieces": 3, "max_steps": 9}, "gru"),
        ("Foraging-v0", {"num_agents": 3, "size": 6, "num_food": 4}, "none"),  # agents at once
    ],
)
def test_a_trained_policy_plays_the_episodes_of_its_evaluation(name, parameters, recurrence):
    env = mazejax.make(name, **parameters)
    network = {"hidden": [8], "recurrence": recurrence, "memory_size": 8}
    run = mazejax.RunContext(
        "ppo", env, num_envs=2, num_steps=4, num_minibatches=1, network=network
    )
    variables = run.algorithm.init_variables(random.key(0))
    policy = trained_policy(run.algorithm, variables, deterministic=False)
    root = random.stream(random.key(9), "evaluation")
    recorded = record_events(env, policy, root, 6, 30)
    evaluate = jax.jit(lambda v: run.algorithm.evaluate(v, random.key(9), 6, 30, False))
    result = evaluate(variables)
    np.testing.assert_array_equal(recorded.episodes.length, result.lengths)
    np.testing.assert_allclose(recorded.episodes.episode_return, result.returns, rtol=1e-6)
    assert sum(len(table.env_time) for table in recorded.tables.values()) > 6


def test_kpis_are_events_of_the_last_step(tmp_path):
    env = CUTTING[True]
    recorded = record_events(env, random_policy(env), ROOT, 3, 11, tmp_path)
    table = recorded[BaseEnvEvents.kpi]
    assert table.episode_id.tolist() == recorded.episodes.episode_id.tolist()
    assert table.env_time.tolist() == [10, 10, 10]
    used = recorded[InventoryEvents.piece_replenished]
    counts = [len(used.rows_of([name]).env_time) for name in table.episode_id]
    np.testing.assert_array_equal(table.attributes["value"], np.float32(counts) / np.float32(11))
    lines = open_table(tmp_path, "BaseEnvEvents.kpi.tsv")
    assert lines[0].split("\t") == ["episode_id", "env_time", "name", "value"]
    assert lines[1].split("\t")[1:3] == ["10", "raw_piece_usage_per_step"]
    assert (
        BaseEnvEvents.kpi.id not in record_events(CONVOY, random_policy(CONVOY), ROOT, 1, 2).tables
    )


def test_an_equal_policy_compiles_once():
    event_playing._compiled.cache_clear()
    for seed in (0, 1):
        record_events(CUTTING[False], GreedyPolicy(), random.key(seed), 2, 4)
    assert event_playing._compiled.cache_info().misses == 1


def test_what_cannot_be_recorded_is_named():
    with pytest.raises(EnvError, match=r"fires no events: no step returns an EventLog"):
        cartpole = mazejax.make("CartPole-v1")
        record_events(cartpole, random_policy(cartpole), ROOT)
    with pytest.raises(ConfigError, match="must be positive, got 0, 5"):
        record_events(CUTTING[False], GreedyPolicy(), ROOT, 0, 5)
    recorded = record_events(CUTTING[False], GreedyPolicy(), ROOT, 1, 4)
    with pytest.raises(EnvError, match=r"CuttingEvents\.cut: not recorded; .*valid_cut"):
        recorded["CuttingEvents.cut"]
