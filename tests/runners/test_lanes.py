"""Lanes are the runs that they stand for, however they are chunked and spread."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.algos.a2c import A2C
from mazejax.algos.es import ES, MLPPolicy
from mazejax.algos.ppo import PPO
from mazejax.networks.mlp import MLPActorCritic
from mazejax.runners import lanes
from mazejax.runners.lanes import chunk_size, compile_lanes, peak_bytes
from tests.runners.tiny import child

CARTPOLE = mazejax.make("CartPole-v1", max_steps=50)
SIZES = {"network": MLPActorCritic((8,)), "num_envs": 4, "num_steps": 8, "total_steps": 5 * 32}
POPULATION = {"population_size": 4, "max_steps": 20, "total_steps": 3 * 80}
ALGORITHMS = {
    "ppo": PPO(CARTPOLE, num_minibatches=2, num_epochs=2, **SIZES),
    "a2c": A2C(CARTPOLE, **SIZES),
    "es": ES(CARTPOLE, network=MLPPolicy((8,)), **POPULATION),
}
SEEDS = (3, 2**31 - 1, 0)
EPISODES = 6
PLENTY = 1e12


@functools.cache
def swept(name):
    """An algorithm at three learning rates, and its program."""
    made = tuple(ALGORITHMS[name].replace(learning_rate=rate) for rate in (1e-3, 1e-2, 1e-1))
    return made, compile_lanes(made, SEEDS, EPISODES, 60, jax.local_devices()[:1], PLENTY)


@functools.cache
def results(name):
    """Of all lanes at once."""
    (chunk,) = swept(name)[1].run()
    return chunk


def assert_same_lanes(one, other):
    np.testing.assert_array_equal(one.episodes, other.episodes)
    np.testing.assert_array_equal(one.eval_ended, other.eval_ended)
    np.testing.assert_array_equal(one.eval_return, other.eval_return)  # whole numbers
    np.testing.assert_array_equal(one.finite, other.finite)
    np.testing.assert_allclose(one.train_return, other.train_return, rtol=1e-6)


# --- sameness -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_lane_is_the_ordinary_run_of_its_algorithm_and_seed(name):
    algorithms, _ = swept(name)
    for lane, (algorithm, seed) in {1: (0, 1), 6: (2, 0)}.items():
        algorithm, key = algorithms[algorithm], random.key(SEEDS[seed])
        state, metrics = jax.jit(algorithm.train)(key)
        evaluate = jax.jit(lambda v, key, a=algorithm: a.evaluate(v, key, EPISODES, 60))
        episodes, returns = evaluate(state.variables, key), metrics["train/episode_return"]
        alone = lanes.Lane(returns.count, returns.mean, episodes.returns, episodes.ended, True)
        assert_same_lanes(jax.tree.map(lambda x, i=lane: x[i], results(name)), alone)


def test_lanes_of_other_numbers_and_seeds_differ():
    rows = [tuple(row) for row in results("ppo").train_return.tolist()]
    assert len(set(rows)) == len(rows) == 9


def test_chunks_give_what_all_lanes_at_once_give():
    algorithms, program = swept("ppo")
    memory = 4.5 * program.bytes_per_lane
    chunked = compile_lanes(algorithms, SEEDS, EPISODES, 60, jax.local_devices()[:1], memory)
    assert chunked.lanes_per_chunk == 3
    assert "9 runs in 3 chunks of 3, 0." in str(chunked) and "9 runs at once" in str(program)
    parts = list(chunked.run())
    assert_same_lanes(jax.tree.map(lambda *x: np.concatenate(x), *parts), results("ppo"))


def test_a_last_chunk_that_is_not_full_returns_only_its_lanes():
    algorithms, program = swept("ppo")
    memory = 2.5 * program.bytes_per_lane
    chunked = compile_lanes(algorithms[:1], SEEDS, EPISODES, 60, jax.local_devices()[:1], memory)
    parts = list(chunked.run())
    assert [len(part.finite) for part in parts] == [2, 1]
    joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    assert_same_lanes(joined, jax.tree.map(lambda x: x[:3], results("ppo")))


DEVICES = """
import jax, numpy as np
from mazejax.runners.lanes import compile_lanes
from tests.runners.test_lanes import EPISODES, SEEDS, assert_same_lanes, results, swept

assert jax.local_device_count() == 4
for name, memory_of_lanes in (("ppo", 100), ("es", 4)):
    algorithms, alone = swept(name)
    memory = alone.bytes_per_lane * memory_of_lanes
    program = compile_lanes(algorithms, SEEDS, EPISODES, 60, jax.devices(), memory)
    assert program.lanes_per_chunk == min(12, memory_of_lanes), program
    text = program.compiled.as_text()
    words = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    assert not [word for word in words if word in text]
    parts = list(program.run())
    assert_same_lanes(jax.tree.map(lambda *x: np.concatenate(x), *parts), results(name))
print("same lanes")
"""


@pytest.mark.timeout(240)
def test_lanes_spread_over_devices_are_the_same_and_never_talk_to_each_other():
    process = child(
        "import os\n"
        "os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '')"
        " + ' --xla_force_host_platform_device_count=4'\n" + DEVICES
    )
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0 and "same lanes" in out, err[-3000:]


def test_no_more_devices_are_taken_than_there_are_lanes():
    algorithm = swept("es")[0][0]
    many = jax.local_devices()[:1] * 5
    program = compile_lanes([algorithm], [0], EPISODES, 60, many, PLENTY)
    assert program.lanes_per_chunk == 1


# --- groups -------------------------------------------------------------------------------


def test_algorithms_that_differ_in_numbers_only_share_a_program():
    ppo = ALGORITHMS["ppo"]
    heavy = ppo.replace(env=mazejax.make("CartPole-v1", max_steps=50, gravity=12.0))
    made = [
        ppo,
        ppo.replace(num_envs=8),
        ppo.replace(learning_rate=1.0, gamma=0.5),
        ppo.replace(value_clip=0.2),
        heavy,
        ppo.replace(num_envs=8, gamma=0.5),
        ppo.replace(value_clip=0.5),
        ppo.replace(critic="shared"),
    ]
    assert lanes.group(made) == [[0, 2, 4], [1, 5], [3, 6], [7]]


def test_numbers_of_other_shapes_need_a_program_of_their_own():
    ppo = ALGORITHMS["ppo"]
    made = [ppo.replace(gamma=gamma) for gamma in (0.9, jnp.float32(0.8), np.array([0.9, 0.8]))]
    assert lanes.group(made) == [[0, 1], [2]]


# --- memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_lanes", "fitting", "num_devices", "size"),
    [
        (32, 100, 1, 32),
        (32, 32, 1, 32),
        (32, 31, 1, 16),
        (32, 15, 1, 11),  # three chunks of 11, 11 and 10: not two of 15 and one of 2
        (9, 4, 1, 3),
        (7, 1, 1, 1),
        (7, 0, 1, 1),
        (10, 100, 4, 12),
        (10, 9, 4, 8),
        (16, 9, 4, 8),
        (16, 3, 4, 4),
        (1, 100, 1, 1),
    ],
)
def test_chunks_are_equal_as_few_as_fit_and_share_their_lanes_evenly(
    num_lanes, fitting, num_devices, size
):
    assert chunk_size(num_lanes, 100, 100.0 * fitting + 50, num_devices) == size


def jaxpr_of(function, *shapes):
    return jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]).jaxpr


def test_the_peak_counts_what_is_alive_at_once():
    def chain(x):
        for _ in range(5):
            x = jnp.sin(x)
        return x

    def fan(x):
        return sum((jnp.sin(x + i) for i in range(4)), jnp.zeros(()))

    assert peak_bytes(jaxpr_of(chain, (100,))) == 2 * 400
    # The sum so far, and two of a term: each is added as soon as it is there.
    assert peak_bytes(jaxpr_of(fan, (100,))) == pytest.approx(3 * 400, abs=16)


def test_the_peak_of_a_loop_is_that_of_one_round_beside_what_it_collects():
    def loop(x):
        def double(carry, _):
            wide = jnp.concatenate([carry, carry])
            return wide[:100] * 2.0, carry.sum()

        return jax.lax.scan(double, x, None, length=50)

    body = (200 + 100 + 100) * 4
    outside = (100 + 50) * 4
    found = peak_bytes(jaxpr_of(loop, (100,)))
    assert outside + 800 < found <= outside + body + 16
    unread = jaxpr_of(lambda x: loop(x)[0], (100,))
    assert peak_bytes(unread) == found - 50 * 4, "what nobody reads is not kept"


def test_keys_have_the_bytes_of_their_words():
    jaxpr = jax.make_jaxpr(lambda key: jax.random.split(key, 10))(random.key(0)).jaxpr
    assert peak_bytes(jaxpr) >= 10 * 8


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_prediction_is_near_what_the_compiler_takes(name):
    _, program = swept(name)
    taken = program.compiled.memory_analysis()
    taken = (taken.temp_size_in_bytes + taken.output_size_in_bytes) / program.lanes_per_chunk
    assert 0.4 < program.bytes_per_lane / taken < 4.0


@pytest.mark.parametrize(
    ("meminfo", "cgroup", "free"),
    [
        ("MemTotal: 9 kB\nMemAvailable:   1024 kB\n", None, 2**20),
        ("MemAvailable: 1024 kB\n", ("max", "7"), 2**20),
        ("MemAvailable: 1024 kB\n", ("1000", "400"), 512),
        ("MemAvailable: 1024 kB\n", ("9000000", "400"), 2**20),
    ],
)
def test_lanes_take_half_of_what_system_and_control_group_leave_down_to_a_power_of_two(
    tmp_path, monkeypatch, meminfo, cgroup, free
):
    (tmp_path / "meminfo").write_text(meminfo)
    for name, text in zip(("max", "current"), cgroup or (), strict=False):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(lanes, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(lanes, "_CGROUP", tmp_path)
    assert lanes.free_memory(jax.local_devices()) == free / 2


def test_a_host_that_does_not_tell_is_taken_for_half_full(tmp_path, monkeypatch):
    monkeypatch.setattr(lanes, "_MEMINFO", tmp_path / "nothing")
    monkeypatch.setattr(lanes.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100}.get)
    assert lanes.free_memory(jax.local_devices()) == 2**16  # below 4096 * 25


def test_on_accelerators_the_fullest_device_decides():
    def device(used):
        stats = {"bytes_limit": 1000, "bytes_in_use": used}
        return types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)

    assert lanes.free_memory([device(0), device(600)]) == 256  # below 400
