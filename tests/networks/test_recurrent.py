"""LSTM and GRU: flax's equations, episodes that know nothing of each other, one product outside."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.networks.recurrent import GRU, LSTM, LSTMCarry

T, N, D, H = 7, 3, 4, 5
LAYERS = {"LSTM": LSTM(H), "GRU": GRU(H)}
GATES = {"LSTM": "ifgo", "GRU": "rzn"}
both = pytest.mark.parametrize("name", LAYERS)


@functools.lru_cache
def compiled(name):
    return jax.jit(LAYERS[name].apply)


@functools.lru_cache
def variables_of(name):
    """Weights that are nowhere zero: initial ones with noise."""
    layer = LAYERS[name]
    x, begins = jnp.zeros((1, D)), jnp.zeros(1, bool)
    initial = jax.jit(layer.init)(random.key(0), x, layer.initial_carry(()), begins)
    rng = np.random.default_rng(0)
    noise = lambda leaf: leaf + rng.normal(size=leaf.shape, scale=0.3).astype(np.float32)  # noqa: E731
    return jax.tree.map(noise, initial)


def sequence(name, seed=0, batch=(N,), steps=T, chance=0.3):
    """Inputs, a carry that is not zero, and random begins."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, *batch, D)).astype(np.float32)
    draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.5).astype(np.float32)  # noqa: E731
    carry = jax.tree.map(draw, LAYERS[name].initial_carry(batch))
    return x, carry, rng.random((steps, *batch)) < chance


def close(got, wanted, tolerance=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


# --- equations ------------------------------------------------------------------------------


def flax_variables(name):
    """The same weights under the names of flax's cells."""
    weights = dict(variables_of(name)["params"])
    gates, new_bias = GATES[name], weights.pop("recurrent_bias", None)
    split = {key: np.split(np.asarray(leaf), len(gates), -1) for key, leaf in weights.items()}
    dense = {}
    for i, gate in enumerate(gates):
        dense[f"i{gate}"] = {"kernel": split["input_kernel"][i]}
        dense[f"h{gate}"] = {"kernel": split["recurrent_kernel"][i]}
        dense[f"{'h' if name == 'LSTM' else 'i'}{gate}"]["bias"] = split["bias"][i]
    if name == "GRU":
        dense["hn"]["bias"] = new_bias
    return {"params": dense}


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell])
def test_every_step_is_that_of_the_cell_of_flax_with_the_same_weights(cell):
    name = "GRU" if cell is nn.GRUCell else "LSTM"
    x, carry, begins = sequence(name)
    out, last = compiled(name)(variables_of(name), x, carry, begins)
    step = jax.jit(cell(H).apply)
    theirs = carry if name == "GRU" else tuple(carry)
    for t in range(T):
        reset = lambda leaf, t=t: np.where(begins[t][:, None], np.float32(0), leaf)  # noqa: E731
        theirs, wanted = step(flax_variables(name), jax.tree.map(reset, theirs), x[t])
        np.testing.assert_allclose(out[t], wanted, rtol=1e-6, atol=1e-6)
    close(tuple(jax.tree.leaves(last)), tuple(jax.tree.leaves(theirs)))


@both
def test_gradients_are_those_that_jax_finds_through_single_steps(name):
    x, carry, begins = sequence(name, seed=3)
    weight = np.random.default_rng(4).normal(size=(T + 2, N, H)).astype(np.float32)

    def total(out, last):
        parts = zip(jax.tree.leaves(last), weight[T:], strict=False)
        return (out * weight[:T]).sum() + sum((leaf * w).sum() for leaf, w in parts)

    def scanned(variables, x, carry):
        return total(*LAYERS[name].apply(variables, x, carry, begins))

    def stepwise(variables, x, carry):
        return total(*one_at_a_time(LAYERS[name].apply, variables, x, carry, begins))

    at = (variables_of(name), x, carry)
    wanted = jax.jit(jax.grad(stepwise, argnums=(0, 1, 2)))(*at)
    close(jax.jit(jax.grad(scanned, argnums=(0, 1, 2)))(*at), wanted, 1e-5)
    # Forward mode goes the same way: the derivative along the gradient is its square.
    _, along = jax.jit(lambda *at: jax.jvp(scanned, at, wanted))(*at)
    square = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(wanted))
    np.testing.assert_allclose(along, square, rtol=1e-5)


@both
def test_second_derivatives_are_those_that_jax_finds_through_single_steps(name):
    x, carry, begins = sequence(name, seed=5, steps=3)
    along = jax.tree.map(jnp.cos, (variables_of(name), x))

    def second(apply):
        def slope(variables, x):
            def total(variables, x):
                out, last = apply(variables, x, carry, begins)
                return jnp.sin(out).sum() + sum((z**2).sum() for z in jax.tree.leaves(last))

            return jax.grad(total, argnums=(0, 1))(variables, x)

        def along_slope(*at):
            return sum(
                jnp.vdot(a, b)
                for a, b in zip(*map(jax.tree.leaves, (slope(*at), along)), strict=True)
            )

        at = (variables_of(name), x)
        return jax.jit(lambda: (jax.jvp(slope, at, along)[1], jax.grad(along_slope, (0, 1))(*at)))()

    forward, backward = second(LAYERS[name].apply)
    for wanted in second(functools.partial(one_at_a_time, LAYERS[name].apply)):
        close(forward, wanted, 1e-4)
        close(backward, wanted, 1e-4)


# --- episodes -------------------------------------------------------------------------------


def one_at_a_time(apply, variables, x, carry, begins):
    """The same sequence in calls of one step."""
    outs = []
    for t in range(x.shape[0]):
        out, carry = apply(variables, x[t : t + 1], carry, begins[t : t + 1])
        outs.append(out)
    return jnp.concatenate(outs), carry


@both
@pytest.mark.parametrize("seed", range(5))
def test_scanned_steps_are_single_steps_wherever_episodes_begin(name, seed):
    x, carry, begins = sequence(name, seed, chance=[0.0, 0.1, 0.3, 0.6, 1.0][seed])
    apply, variables = compiled(name), variables_of(name)
    close(apply(variables, x, carry, begins), one_at_a_time(apply, variables, x, carry, begins))


@both
def test_a_sequence_may_be_cut_anywhere_and_continued_with_the_carry(name):
    x, carry, begins = sequence(name, seed=1)
    apply, variables = compiled(name), variables_of(name)
    out, last = apply(variables, x, carry, begins)
    first, middle = apply(variables, x[:3], carry, begins[:3])
    second, end = apply(variables, x[3:], middle, begins[3:])
    close((jnp.concatenate([first, second]), end), (out, last))


@both
def test_an_episode_depends_on_nothing_before_it(name):
    x, carry, begins = sequence(name, seed=2, chance=0.0)
    begins[3] = True
    apply, variables = compiled(name), variables_of(name)
    out, last = apply(variables, x, carry, begins)
    other_x, other_carry, _ = sequence(name, seed=9)
    mixed = np.concatenate([other_x[:3], x[3:]])
    other, other_last = apply(variables, mixed, other_carry, begins)
    np.testing.assert_array_equal(other[3:], out[3:])
    assert jax.tree.all(jax.tree.map(np.array_equal, other_last, last))
    assert (other[:3] != out[:3]).all()
    # Neither does it if the carry was zero because it was the first of all.
    zero = LAYERS[name].initial_carry((N,))
    fresh = np.zeros_like(begins)
    close(apply(variables, x[3:], zero, fresh[3:]), (out[3:], last))


@both
def test_no_gradient_flows_back_across_a_begin(name):
    x, carry, begins = sequence(name, seed=2, chance=0.0)
    begins[3, 0] = True

    def later(x, carry):
        out, last = LAYERS[name].apply(variables_of(name), x, carry, begins)
        return out[3:].sum() + sum(leaf.sum() for leaf in jax.tree.leaves(last))

    of_x, of_carry = jax.jit(jax.grad(later, argnums=(0, 1)))(x, carry)
    assert (of_x[:3, 0] == 0).all() and (of_x[:3, 1:] != 0).all() and (of_x[3:] != 0).all()
    for leaf in jax.tree.leaves(of_carry):
        assert (leaf[0] == 0).all() and (leaf[1:] != 0).all()


@both
@pytest.mark.parametrize("steps", [1, T])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_carry_that_is_not_finite_ends_with_its_episode(name, steps, bad):
    x, carry, begins = sequence(name, steps=steps)
    begins[0] = True

    def total(variables, x, carry):
        out, last = LAYERS[name].apply(variables, x, carry, begins)
        return out.sum() + sum(leaf.sum() for leaf in jax.tree.leaves(last))

    gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
    spoiled = jax.tree.map(lambda leaf: np.full_like(leaf, bad), carry)
    clean, got = gradient(variables_of(name), x, carry), gradient(variables_of(name), x, spoiled)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))
    assert jax.tree.all(jax.tree.map(np.array_equal, got, clean))


@both
def test_what_a_step_makes_of_nan_does_not_reach_the_next_episode(name):
    x, carry, begins = sequence(name, chance=0.0)
    begins[4] = True
    spoiled = x.copy()
    spoiled[2] = np.nan
    apply, variables = compiled(name), variables_of(name)
    out, last = apply(variables, x, carry, begins)
    got, got_last = apply(variables, spoiled, carry, begins)
    assert np.isnan(got[2:4]).all()
    np.testing.assert_array_equal(got[4:], out[4:])
    assert jax.tree.all(jax.tree.map(np.array_equal, got_last, last))


# --- axes and programs ----------------------------------------------------------------------


@both
@pytest.mark.parametrize("batch", [(), (1,), (N, 2), (2, 1, 3)])
@pytest.mark.parametrize("steps", [1, 4])
def test_any_batch_axes_are_rows_of_their_own(name, batch, steps):
    x, carry, begins = sequence(name, batch=batch, steps=steps)
    apply, variables = compiled(name), variables_of(name)
    out, last = apply(variables, x, carry, begins)
    assert out.shape == (steps, *batch, H) and out.dtype == jnp.float32
    flat_carry = jax.tree.map(lambda leaf: leaf.reshape(-1, H), carry)
    flat = apply(variables, x.reshape(steps, -1, D), flat_carry, begins.reshape(steps, -1))
    wanted = jax.tree.map(lambda leaf: leaf.reshape(*batch, H), flat[1])
    close((out, last), (flat[0].reshape(out.shape), wanted))


@both
def test_gradients_of_any_batch_axes_are_those_of_rows(name):
    x, carry, begins = sequence(name, batch=(N, 2))

    def total(variables, x, carry, begins):
        return jnp.square(LAYERS[name].apply(variables, x, carry, begins)[0]).sum()

    gradient = jax.jit(jax.grad(total))
    flat_carry = jax.tree.map(lambda leaf: leaf.reshape(-1, H), carry)
    flat = gradient(variables_of(name), x.reshape(T, -1, D), flat_carry, begins.reshape(T, -1))
    close(gradient(variables_of(name), x, carry, begins), flat, 1e-5)


@both
def test_seeds_may_be_vmapped_with_weights_of_their_own(name):
    layer = LAYERS[name]
    x, carry, begins = sequence(name)

    def loss(variables):
        return jnp.square(layer.apply(variables, x, carry, begins)[0]).sum()

    init = lambda key: layer.init(key, x, carry, begins)  # noqa: E731
    many = jax.jit(jax.vmap(init))(jax.random.split(random.key(0), 3))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss)))(many)
    assert len(set(values.tolist())) == 3
    single = jax.jit(jax.value_and_grad(loss))
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        close(single(one), (values[i], jax.tree.map(lambda leaf, i=i: leaf[i], gradients)), 1e-5)


@both
def test_a_single_step_has_no_loop_and_several_of_few_rows_have_one_with_one_product_inside(name):
    def program(steps):
        x, carry, begins = sequence(name, steps=steps)
        return jax.make_jaxpr(LAYERS[name].apply)(variables_of(name), x, carry, begins)

    assert "scan" not in str(program(1)) and "while" not in str(program(1))
    text = str(program(T))
    assert text.count("scan[") == 1 and text.count("dot_general[") == 2


@both
def test_where_the_inputs_product_stands_changes_no_number(name, monkeypatch):
    x, carry, begins = sequence(name, batch=(6,))

    def outputs_and_gradient():
        def total(variables):
            out, last = LAYERS[name].apply(variables, x, carry, begins)
            return jnp.sum(jnp.square(out)), (out, last)

        return jax.jit(jax.value_and_grad(total, has_aux=True))(variables_of(name))

    in_scan = outputs_and_gradient()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    close(outputs_and_gradient(), in_scan, 1e-5)


# --- weights, carries, errors ---------------------------------------------------------------


@both
def test_initial_weights_are_those_of_the_field(name):
    layer, gates = LAYERS[name], GATES[name]
    x = jnp.zeros((1, 200, 256))
    carry, begins = layer.initial_carry((200,)), jnp.zeros((1, 200), bool)
    weights = jax.jit(layer.init)(random.key(0), x, carry, begins)["params"]
    kernels = np.split(np.asarray(weights["recurrent_kernel"]), len(gates), axis=1)
    for i, kernel in enumerate(kernels):
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(H), atol=1e-5)
        assert all((kernel != other).any() for other in kernels[:i]), "drawn independently"
    # lecun_normal: a variance of 1/256, from 256 x 15 or 20 draws.
    assert weights["input_kernel"].shape == (256, len(gates) * H)
    np.testing.assert_allclose(np.var(weights["input_kernel"]), 1 / 256, rtol=0.1)
    bias = np.zeros(len(gates) * H)
    if name == "LSTM":
        bias[H : 2 * H] = 1.0  # the forget gate's
    else:
        np.testing.assert_array_equal(weights["recurrent_bias"], np.zeros(H))
    np.testing.assert_array_equal(weights["bias"], bias)


@both
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_the_initial_carry_is_zero_and_has_the_type_of_later_ones(name, batch):
    layer = LAYERS[name]
    carry = layer.initial_carry(batch)
    assert isinstance(carry, LSTMCarry if name == "LSTM" else jax.Array)
    for leaf in jax.tree.leaves(carry):
        assert leaf.shape == (*batch, H) and leaf.dtype == jnp.float32 and (leaf == 0).all()
    for steps in (1, T):
        x, _, begins = sequence(name, batch=batch, steps=steps)
        later = jax.eval_shape(layer.apply, variables_of(name), x, carry, begins)[1]
        assert later == jax.eval_shape(lambda carry=carry: carry)


def test_the_carry_of_an_lstm_may_be_any_pair():
    x, carry, begins = sequence("LSTM")
    apply, variables = compiled("LSTM"), variables_of("LSTM")
    close(apply(variables, x, tuple(carry), begins), apply(variables, x, carry, begins))


def test_wrong_shapes_meet_one_sentence():
    x, carry, begins = sequence("GRU")
    variables = variables_of("GRU")
    with pytest.raises(ConfigError, match=r"GRU: got begins of shape \(3,\), expected \(7, 3\)"):
        GRU(H).apply(variables, x, carry, begins[0])
    with pytest.raises(ConfigError, match=r"carry of shapes \[\(2, 5\)\], expected \[\(3, 5\)\]"):
        GRU(H).apply(variables, x, carry[:2], begins)
    with pytest.raises(ConfigError, match=r"LSTM: got a carry of shapes \[\(3, 5\)\].*\(3,\)"):
        LSTM(H).apply(variables_of("LSTM"), x, carry, begins)


@pytest.mark.parametrize("cell", [LSTM(5), GRU(5)], ids=["LSTM", "GRU"])
@pytest.mark.parametrize("steps", [1, 4])
def test_without_restarts_it_is_what_it_is_with_none_of_them(cell, steps):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(steps, 3, 2)), jnp.float32)
    carry, nowhere = cell.initial_carry((3,)), jnp.zeros((steps, 3), bool)
    variables = cell.init(jax.random.key(0), x, carry, nowhere)

    def outputs(begins):
        def total(variables):
            out, last = cell.apply(variables, x, carry, begins)
            return jnp.sum(out**2), last

        return jax.jit(jax.value_and_grad(total, has_aux=True))(variables)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        outputs(None), outputs(nowhere),
    )  # fmt: skip
