"""What a deployed policy sees and does is what it saw and did in its wrapped env."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax.deployment import Interface
from mazejax.spaces.shapes import check_shapes
from mazejax.wrappers import wrap
from mazejax.wrappers.base import find_state

NORMALIZED = {
    "default_strategy_config": {"clip_range": [-3.0, 3.0]},
    "default_statistics": {"mean": 0.1, "std": 0.5},
}
STACKED = [{"observation": "observation", "stack_steps": 3}]

CASES = {
    "flat": (
        mazejax.make("CartPole-v1"),
        {
            "ObservationStack": {"stack_config": STACKED},
            "ObservationNormalization": NORMALIZED,
            "TimeLimit": {"max_steps": 9},
        },
    ),
    "continuous actions in bins": (
        mazejax.make("Pendulum-v1"),
        {
            "DictAction": {},
            "DiscretizeActions": {"discretization_config": {"action": {"num_bins": 5}}},
            "ObservationStack": {"stack_config": STACKED},
        },
    ),
    "schedule": (
        mazejax.make("Cutting2D-v0", structured=True, masked=True, max_pieces=8),
        {
            "ObservationStack": {
                "stack_config": [{"observation": "ordered_piece", "stack_steps": 2}],
                "stack_mode": "group_by_actor_id",
            },
        },
    ),
    "agents at once": (
        mazejax.make("Foraging-v0"),
        {"ObservationNormalization": NORMALIZED},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_observations_and_actions_pass_as_in_the_wrapped_env(name):
    bare, wrappers = CASES[name]
    env = wrap(bare, wrappers)
    interface, memory = Interface(env), None
    observe = jax.jit(interface.observe)
    key = jax.random.key(0)
    obs, state = env.reset(key)
    step, observe_raw = jax.jit(env.step), jax.jit(env.unwrapped.observe)
    for t in range(6):
        raw = find_state(env, type(env.unwrapped), state)
        seen, memory = observe(observe_raw(raw), memory)
        jax.tree.map(np.testing.assert_array_equal, seen, obs)
        actor = env.actor_id(state)
        agents = () if actor.agent_id is not None else (env.agent_counts[actor.step_key],)
        space = env.action_spaces[actor.step_key]
        keys = jax.random.split(jax.random.fold_in(key, t), agents)
        draw = jax.vmap(space.sample) if agents else space.sample
        action = draw(keys)
        inner = interface.act(action, memory)
        check_shapes(env.unwrapped.action_spaces[actor.step_key], inner, "action", agents)
        result = step(key, state, action)
        obs, state = result.obs, result.state


def test_an_action_is_changed_by_the_wrappers_from_the_outside_in():
    bare, wrappers = CASES["continuous actions in bins"]
    interface = Interface(wrap(bare, wrappers))
    _, memory = interface.observe(jnp.zeros(3))
    # The middle of the first of five bins of [-2, 2].
    np.testing.assert_allclose(interface.act({"action": jnp.int32(0)}, memory), [-1.6], rtol=1e-6)
    assert repr(interface) == (
        "Interface(ObservationStack<DiscretizeActions<DictAction<TimeLimit<Pendulum>>>>)"
    )
