"""Learners spread over devices and processes: what one does, with one message a minibatch."""

import socket

import pytest

from mazejax.algos import devices
from mazejax.algos.es import ES
from mazejax.algos.ppo import PPO
from mazejax.envs.probe import ConstantReward
from mazejax.errors import ConfigError
from tests.runners.tiny import child

PRELUDE = """
import os
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count={devices}"
)
import math, re
import jax, jax.numpy as jnp, numpy as np
import mazejax
from mazejax import random
from mazejax.networks.mlp import MLPActorCritic, MLPPolicy

SMALL = dict(env=mazejax.make("CartPole-v1"), num_envs=32, num_steps=8, total_steps=32 * 8 * 4)

def close(found, expected, **tolerance):
    found, expected = jax.device_get((found, expected))
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, **tolerance), found, expected)
"""

LEARNERS = """
def both(cls, **fields):
    one, eight = cls(**fields), cls(**fields, num_devices=8)
    return [(a, jax.jit(a.init)(random.key(1)), jax.jit(a.update)) for a in (one, eight)]

# One minibatch without normalization of its own: eight devices do what one does.
plain = dict(num_epochs=1, num_minibatches=1, advantage_norm="none", network=MLPActorCritic((8,)))
normalized = dict(normalize_obs=True, normalize_reward=True)
(one, alone, update), (eight, spread, update_spread) = both(
    mazejax.PPO, **SMALL, **plain, **normalized
)
assert eight.num_updates == one.num_updates == 4
for _ in range(3):
    (alone, metrics), (spread, metrics_spread) = update(alone), update_spread(spread)
    close(spread.variables, alone.variables, rtol=2e-4, atol=2e-5)
    close(spread.rewards, alone.rewards, rtol=1e-4, atol=1e-5)
    for name in ("train/episode_return", "train/episode_length"):
        close(metrics_spread[name], metrics[name], rtol=1e-4)
    close(metrics_spread["loss/value"].mean, metrics["loss/value"].mean, rtol=1e-3)
    assert int(metrics_spread["optimizer/grad_norm"].count) == 8
assert tuple(spread.collect.obs.sharding.spec) == ("devices",)
print("updates agree")

# A device on which few are active counts for as much as they are.
(_, alone, update), (_, spread, update_spread) = both(
    mazejax.A2C, env=mazejax.make("TicTacToe-v0"), num_envs=8, num_steps=6,
    total_steps=8 * 6 * 2, network=MLPActorCritic((8,)), statistics="none",
)
for _ in range(2):
    (alone, metrics), (spread, metrics_spread) = update(alone), update_spread(spread)
    close(metrics_spread["loss/policy"].mean, metrics["loss/policy"].mean, rtol=1e-4, atol=1e-6)
    close(spread.variables, alone.variables, rtol=2e-4, atol=2e-5)
print("inactive agents agree")

# The first rollout has the same bits.
first = [jax.jit(a.collect)(a.init(random.key(5)))[1] for a in (one, eight)]
jax.tree.map(np.testing.assert_array_equal, *jax.device_get(first))
print("rollouts agree")

# Several minibatches, memory, a target KL: weights stay the same on all devices, to the bit.
recurrent = mazejax.PPO(
    **{**SMALL, "num_steps": 4},
    num_devices=8,
    num_epochs=2,
    num_minibatches=2,
    target_kl=0.02,
    network=MLPActorCritic((8,), recurrence="gru", memory_size=8),
)
state, update_recurrent = jax.jit(recurrent.init)(random.key(0)), jax.jit(recurrent.update)
for _ in range(2):
    state, metrics = update_recurrent(state)
for leaf in jax.tree.leaves((state.variables, state.optimizer, metrics)):
    copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert len(copies) == 8
    assert all(np.array_equal(copies[0], copy) for copy in copies)
print("weights agree")

# One message a minibatch, none of the size of a rollout.
text = update_recurrent.lower(state).compile().as_text()
messages = re.findall(r"= (.*?) (all-\\w+|collective-permute|reduce-scatter)(?:-start)?\\(", text)
assert {kind for _, kind in messages} == {"all-reduce"}, messages
def size(dims):
    return math.prod(int(d) for d in dims.split(",") if d)

sizes = [[size(dims) for dims in re.findall(r"\\[([\\d,]*)\\]", shape)] for shape, _ in messages]
weights = sum(leaf.size for leaf in jax.tree.leaves(state.variables))
with_gradients = [entries for entries in sizes if sum(entries) >= weights]
assert len(with_gradients) == 1, messages
assert all(sum(entries) <= weights + 50 for entries in sizes), messages
print("one message")

# A generation of ES is the same, members and the statistics of what they saw.
es = dict(
    env=SMALL["env"], population_size=16, max_steps=20, total_steps=10_000, network=MLPPolicy((4,))
)
(_, alone, update), (_, spread, update_spread) = both(mazejax.ES, **es, normalize_obs=True)
for _ in range(2):
    (alone, metrics), (spread, metrics_spread) = update(alone), update_spread(spread)
    close(spread.variables, alone.variables, rtol=1e-4, atol=1e-5)
    close(metrics_spread["train/episode_return"], metrics["train/episode_return"], rtol=1e-4)
    steps = metrics_spread["population/env_steps"].mean
    close(steps, metrics["population/env_steps"].mean, rtol=1e-6)
print("generations agree")
"""

SEEDS = """
from jax.sharding import Mesh, PartitionSpec as P

algorithm = mazejax.PPO(**SMALL, network=MLPActorCritic((8,)))
seeds = jax.random.split(random.key(0), 4)
train = jax.vmap(lambda key: algorithm.train(key)[0].variables)
expected = jax.jit(train)(seeds)
mesh = Mesh(np.array(jax.devices()), ("seeds",))
spread = jax.jit(jax.shard_map(train, mesh=mesh, in_specs=P("seeds"), out_specs=P("seeds"),
                               check_vma=False))
compiled = spread.lower(seeds).compile()
assert not re.search(r"all-reduce|all-gather|all-to-all|collective", compiled.as_text())
close(compiled(seeds), expected, rtol=1e-4, atol=1e-5)
print("seeds agree")

# Seeds within, envs across: learners on several devices may be vmapped, too.
wide = mazejax.PPO(**SMALL, network=MLPActorCritic((8,)), num_devices=2)
states = jax.jit(jax.vmap(wide.init))(seeds[:2])
states, _ = jax.jit(jax.vmap(wide.update))(states)
single, _ = jax.jit(wide.update)(wide.init(seeds[1]))
close(jax.tree.map(lambda x: x[1], states.variables), single.variables, rtol=1e-4, atol=1e-5)
print("vmapped")
"""

RUN = """
import sys, tempfile
from tests.runners.tiny import digest

def run(directory, steps):
    context = mazejax.RunContext("ppo", "CartPole-v1", directory=directory, num_devices=2,
                                 num_envs=8, num_steps=8, num_minibatches=2, total_steps=steps,
                                 learning_rate_schedule="constant", num_evaluations=1,
                                 eval_episodes=4, progress="none", tensorboard=False)
    return context.train()

with tempfile.TemporaryDirectory() as folder:
    whole = run(folder + "/whole", 512)
    run(folder + "/parts", 256)
    resumed = mazejax.RunContext.load(folder + "/parts", total_steps=512).train()
    assert digest(resumed.state) == digest(whole.state)
    assert resumed.evaluate(5).returns.size == 5
print("resumed")
"""

PROCESS = """
import jax, sys
jax.config.update("jax_cpu_collectives_implementation", "gloo")
if {count} > 1:
    jax.distributed.initialize("localhost:{port}", {count}, {index})
import hashlib, numpy as np, mazejax
from mazejax import random
from mazejax.networks.mlp import MLPActorCritic

assert jax.device_count() == 2
ppo = mazejax.PPO(env=mazejax.make("CartPole-v1"), num_envs=8, num_steps=8, num_minibatches=2,
                  total_steps=192, network=MLPActorCritic((8,)), num_devices=2, normalize_obs=True)
state, metrics = jax.jit(lambda seed: ppo.train(random.key(seed)))(np.uint32(3))
leaves = jax.tree.leaves((state.variables, metrics))
words = b"".join(np.asarray(leaf.addressable_data(0)).tobytes() for leaf in leaves)
print("digest", hashlib.sha256(words).hexdigest())
"""


def finished(*processes):
    """What the processes printed, after they ended well."""
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err[-2000:]
        outputs.append(out)
    return outputs


@pytest.mark.timeout(240)
def test_eight_devices_learn_what_one_does_with_one_message_a_minibatch():
    (out,) = finished(child(PRELUDE.format(devices=8) + LEARNERS))
    assert out.split("\n")[:-1] == [
        "updates agree",
        "inactive agents agree",
        "rollouts agree",
        "weights agree",
        "one message",
        "generations agree",
    ]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_seeds_are_spread_over_devices_without_any_message():
    (out,) = finished(child(PRELUDE.format(devices=4) + SEEDS))
    assert "seeds agree" in out and "vmapped" in out


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_on_two_devices_is_resumed_bit_for_bit():
    (out,) = finished(child(PRELUDE.format(devices=2) + RUN))
    assert "resumed" in out


@pytest.mark.timeout(240)
def test_two_processes_give_the_bits_of_one_with_two_devices():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = [child(PROCESS.format(count=2, index=i, port=port)) for i in range(2)]
    alone = child(PRELUDE.format(devices=2) + PROCESS.format(count=1, index=0, port=port))
    digests = {out.split("digest ")[1].strip() for out in finished(*pair, alone)}
    assert len(digests) == 1


def test_what_does_not_divide_or_exist_is_refused_before_anything_compiles():
    sizes = {"env": ConstantReward(), "num_envs": 12, "num_steps": 4, "num_minibatches": 2}
    with pytest.raises(ConfigError, match="num_devices: num_envs = 12 does not divide into 5"):
        PPO(**sizes, num_devices=5)
    with pytest.raises(ConfigError, match="num_minibatches: num_envs \\* num_steps = 4 does not"):
        PPO(**{**sizes, "num_minibatches": 8}, num_devices=12)
    with pytest.raises(ConfigError, match="num_devices: population_size = 6 does not divide"):
        ES(env=ConstantReward(), population_size=6, num_devices=4)
    with pytest.raises(ConfigError, match=r"even on each of num_devices = 8.*got 8; try 16$"):
        ES(env=ConstantReward(), population_size=8, num_devices=8)
    with pytest.raises(ConfigError, match="num_devices: must be a positive integer, got 0"):
        PPO(**sizes, num_devices=0)
    with pytest.raises(ConfigError, match="axis_name: is for a shard_map of one's own"):
        PPO(**sizes, num_devices=2, axis_name="data")
    with pytest.raises(ConfigError, match="num_devices: got 1000, but there are"):
        devices.make_mesh(1000)
