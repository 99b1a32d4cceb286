"""Envs spread over devices draw, step and reset as they do on one device."""

import pytest

from tests.runners.tiny import child

PROGRAM = """
import functools
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
import mazejax
from mazejax import random
from mazejax.envs.vector import VectorEnv, VectorState

env = mazejax.make("CartPole-v1", max_steps=15)

def run(vector, key):
    def one_step(state, _):
        action = jax.vmap(vector.action_space.sample)(vector.keys(state, "policy"))
        step = vector.step(state, action)
        return step.state, (step.obs, step.reward, step.terminated, step.truncated)
    state = vector.reset(key)[1]
    state, steps = jax.lax.scan(one_step, state, length=40)
    return steps, state.envs, state.episode

mesh = Mesh(np.array(jax.devices()), ("data",))
assert mesh.size == 8
for strategy in ("always", "compact"):
    alone = jax.jit(functools.partial(run, VectorEnv(env, 32, strategy)))(random.key(0))
    local = VectorEnv(env, 4, strategy, axis_name="data")
    spread = jax.jit(
        jax.shard_map(
            functools.partial(run, local),
            mesh=mesh,
            in_specs=P(),
            out_specs=(P(None, "data"), P("data"), P("data")),
            check_vma=False,
        )
    )
    compiled = spread.lower(random.key(0)).compile()
    assert not any(w in compiled.as_text() for w in ("all-gather", "all-reduce", "all-to-all"))
    found = compiled(random.key(0))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(alone))
print("same bits")
"""


@pytest.mark.timeout(240)
def test_eight_devices_give_the_bits_of_one_without_talking_to_each_other():
    process = child(
        "import os\n"
        "os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '')"
        " + ' --xla_force_host_platform_device_count=8'\n" + PROGRAM
    )
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0 and "same bits" in out
