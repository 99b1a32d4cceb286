"""Critics of actions: all categories at once, or the action as one more observation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.networks import ConcatModelBuilder, PerceptionActionValue
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete

OBSERVATION = Dict({"position": Box(-1.0, 1.0, (2,)), "kind": Discrete(3)})
SMALL = ConcatModelBuilder(hidden={"block": "DenseBlock", "hidden": [8]})
ACTIONS = {
    "Discrete": Discrete(4, start=2),
    "Discretes": Dict({"gear": Discrete(3), "lamp": Discrete(2)}),
    "Box": Box(-1.0, 1.0, (2,)),
    "mixed": Dict({"gear": Discrete(3), "steer": Box(-1.0, 1.0, (1,))}),
}


def shapes_of(critic, space):
    """Of variables and of one observation."""
    key = random.key(0)
    return jax.eval_shape(critic.init, key), jax.eval_shape(space.sample, key)


def sample(space, batch=(5,)):
    keys = jax.random.split(random.key(3), batch)
    draw = space.sample
    for _ in batch:
        draw = jax.vmap(draw)
    return draw(keys)


@pytest.mark.parametrize("name", ACTIONS)
def test_every_critic_judges_every_action_of_any_batch(name):
    critic = PerceptionActionValue(SMALL, 3).build(OBSERVATION, ACTIONS[name])
    variables = jax.jit(critic.init)(random.key(0))
    obs, action = sample(OBSERVATION, (2, 4)), sample(ACTIONS[name], (2, 4))
    values = jax.jit(critic.apply)(variables, obs, action)
    assert values.shape == (3, 2, 4) and np.isfinite(values).all()
    assert not np.allclose(values[0], values[1])
    alone = critic.apply(variables, *jax.tree.map(lambda x: x[1, 2], (obs, action)))
    np.testing.assert_allclose(alone, values[:, 1, 2], rtol=1e-4, atol=1e-5)


def test_the_value_of_a_category_is_its_entry_among_all():
    critic = PerceptionActionValue(SMALL).build(OBSERVATION, ACTIONS["Discretes"])
    variables, obs = critic.init(random.key(0)), sample(OBSERVATION)
    values = critic.of_all_actions(variables, obs)
    assert {name: v.shape for name, v in values.items()} == {"gear": (2, 5, 3), "lamp": (2, 5, 2)}
    action = {"gear": jnp.array([0, 2, 1, 1, 0]), "lamp": jnp.array([1, 0, 0, 1, 1])}
    rows = np.arange(5)
    wanted = values["gear"][:, rows, action["gear"]] + values["lamp"][:, rows, action["lamp"]]
    np.testing.assert_allclose(critic.apply(variables, obs, action), wanted, rtol=1e-6)


def test_they_learn_what_an_action_is_worth():
    builder = ConcatModelBuilder(hidden={"block": "DenseBlock", "hidden": [32, 32]})
    critic = PerceptionActionValue(builder).build(OBSERVATION, ACTIONS["Box"])
    obs, action = sample(OBSERVATION, (256,)), sample(ACTIONS["Box"], (256,))
    worth = -jnp.sum((action - obs["position"]) ** 2, axis=-1)
    adam = optax.adam(1e-2)

    def loss(variables):
        return jnp.mean((critic.apply(variables, obs, action) - worth[None]) ** 2)

    def descend(carry, _):
        variables, optimizer = carry
        value, gradient = jax.value_and_grad(loss)(variables)
        change, optimizer = adam.update(gradient, optimizer)
        return (optax.apply_updates(variables, change), optimizer), value

    variables = critic.init(random.key(0))
    begin = (variables, adam.init(variables))
    losses = jax.jit(lambda begin: jax.lax.scan(descend, begin, length=200)[1])(begin)
    assert losses[-1] < 0.05 < losses[0]


def test_what_cannot_be_judged_is_refused():
    critic = PerceptionActionValue().build(OBSERVATION, ACTIONS["Box"])
    with pytest.raises(ConfigError, match=r"of_all_actions: .* is not Discrete; use apply"):
        critic.of_all_actions({}, sample(OBSERVATION))
    with pytest.raises(ConfigError, match="observation 'action': the action goes by this name"):
        PerceptionActionValue().build(Dict({"action": Discrete(2)}), ACTIONS["Box"])
    with pytest.raises(ConfigError, match=r"observation 'value': a head gives .* rename the obser"):
        PerceptionActionValue().build(Dict({"value": Discrete(2)}), ACTIONS["Box"])
    with pytest.raises(ConfigError, match="builder: expected a ConcatModelBuilder, got 3"):
        PerceptionActionValue(3)


@pytest.mark.parametrize("number", [0, 2.0, "2", True, None])
def test_other_than_a_positive_number_of_critics_is_refused(number):
    with pytest.raises(
        ConfigError, match=f"num_critics: must be a positive integer, got {number!r}"
    ):
        PerceptionActionValue(num_critics=number)


def test_actions_and_observations_may_share_names_of_blocks():
    space = Dict({"head_gear": Box(-1.0, 1.0, (6, 6, 1)), "kind": Discrete(3)})
    action = Dict({"gear": Discrete(3), "gear.low": Discrete(2)})
    critic = PerceptionActionValue(SMALL).build(space, action)
    blocks = dict(critic.module.blocks)
    assert {"head_gear", "head_gear_", "head_gear_low"} <= {*blocks}
    assert blocks["head_gear"].out_keys == ("head_gear_image",)
    values = jax.eval_shape(lambda v, obs: critic.of_all_actions(v, obs), *shapes_of(critic, space))
    assert {name: v.shape for name, v in values.items()} == {"gear": (2, 3), "gear.low": (2, 2)}
