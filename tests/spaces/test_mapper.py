import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError, SpaceError
from mazejax.networks.heads import ActionHead
from mazejax.spaces import (
    Bernoulli,
    Beta,
    Box,
    Categorical,
    DiagonalGaussian,
    Dict,
    Discrete,
    DistributionMapper,
    MultiBinary,
    MultiCategorical,
    MultiDiscrete,
    Product,
    Space,
    SquashedGaussian,
)

MAPPER = DistributionMapper()
UNIT = Box(-1.0, 1.0, (2,))
CASES = [
    (Discrete(3, start=2), {"logits": (3,)}, Categorical),
    (MultiDiscrete([[2, 3], [4, 2]], start=1), {"logits": (11,)}, MultiCategorical),
    (MultiBinary((2, 3)), {"logits": (2, 3)}, Bernoulli),
    (Box(-1.0, 1.0, (2, 2)), {"mean": (2, 2), "log_std": (2, 2)}, DiagonalGaussian),
    (Box(0, 255, (3,), np.uint8), {"mean": (3,), "log_std": (3,)}, DiagonalGaussian),
    (Box(-1.0, np.inf, ()), {"mean": (), "log_std": ()}, DiagonalGaussian),
    (
        Dict({"gear": Discrete(3), "drive": Dict({"wheel": Box(-1.0, 1.0, (2,))})}),
        {"gear": {"logits": (3,)}, "drive": {"wheel": {"mean": (2,), "log_std": (2,)}}},
        Product,
    ),
]


def zeros(shapes, batch=()):
    return jax.tree.map(
        lambda shape: jnp.zeros((*batch, *shape)), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


@pytest.mark.parametrize(("space", "shapes", "kind"), CASES)
def test_parameters_and_distribution_follow_the_kind_of_space(space, shapes, kind):
    assert MAPPER.parameters(space) == shapes
    assert type(MAPPER.distribution(space, zeros(shapes))) is kind


@pytest.mark.parametrize(("space", "shapes", "kind"), CASES)
def test_what_the_environment_receives_lies_in_its_space(space, shapes, kind):
    batch = (4, 2)

    @jax.jit
    def act(key):
        distribution = MAPPER.distribution(space, zeros(shapes, batch))
        action = distribution.sample(key)
        return distribution.log_prob(action), distribution.entropy(), MAPPER.to_env(space, action)

    log_prob, entropy, actions = act(random.key(0))
    assert log_prob.shape == entropy.shape == batch
    for index in np.ndindex(batch):
        space.validate(jax.tree.map(lambda leaf: leaf[index], actions))  # noqa: B023


def test_boxes_are_clipped_to_their_finite_bounds_and_others_pass():
    space = Dict({"a": Box([-1.0, -np.inf], [1.0, np.inf]), "b": Discrete(3)})
    action = {"a": jnp.array([7.0, -9.0]), "b": jnp.int32(2)}
    received = MAPPER.to_env(space, action)
    assert received["a"].tolist() == [1.0, -9.0] and received["b"] == 2


def test_integer_boxes_receive_rounded_numbers_of_their_dtype():
    received = MAPPER.to_env(Box(0, 255, (3,), np.uint8), jnp.array([-4.0, 3.6, 1e6]))
    assert received.dtype == jnp.uint8 and received.tolist() == [0, 4, 255]


def test_a_mapper_is_a_value():
    assert DistributionMapper() == MAPPER and hash(DistributionMapper()) == hash(MAPPER)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gear": {"logits": jnp.zeros(3)}}, r"^parameters: got \['gear'\], expected"),
        (jnp.zeros(3), "^parameters: got ArrayImpl, expected"),
        (
            {"gear": {"logits": jnp.zeros((5, 4))}, "wheel": {}},
            r"^parameters\['gear'\]\['logits'\]: got shape \(5, 4\), .* then \(3,\)",
        ),
        (
            {"gear": {"logits": jnp.zeros(3)}, "wheel": {"mean": jnp.zeros(2)}},
            r"^parameters\['wheel'\]: got \['mean'\], expected \['log_std', 'mean'\]",
        ),
    ],
)
def test_parameters_of_wrong_names_or_shapes_are_refused(parameters, message):
    space = Dict({"gear": Discrete(3), "wheel": Box(-1.0, 1.0, (2,))})
    with pytest.raises(ConfigError, match=message):
        MAPPER.distribution(space, parameters)


def test_an_unknown_kind_of_space_is_refused():
    class Other(Space):
        arguments = sample = clip = validate = flatten = unflatten = lambda *_: None

    with pytest.raises(ConfigError, match="got Other, expected one of Discrete"):
        MAPPER.parameters(Other())


# --- masks ----------------------------------------------------------------------------

MASKED = Dict(
    {
        "gear": Discrete(4, start=1),
        "lever": MultiDiscrete([2, 3], start=[5, 0]),
        "lamps": MultiBinary((2, 2)),
        "wheel": Box(-1.0, 1.0, (2,)),
    }
)


def masked_case(batch=()):
    """Random parameters and masks in which each entry allows something."""
    rng = np.random.default_rng(7)
    parameters = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32),
        zeros(MAPPER.parameters(MASKED), batch),
    )
    sizes = {"gear": 4, "lever": 5, "lamps": 4}
    masks = {name: rng.random((*batch, size)) < 0.5 for name, size in sizes.items()}
    for name, allowed in (("gear", 2), ("lever", 1), ("lever", 3)):
        masks[name][..., allowed] = True
    return parameters, jax.tree.map(jnp.asarray, masks)


def test_what_masks_exclude_has_probability_zero_and_the_rest_sums_to_one():
    parameters, masks = masked_case()
    for name in ("gear", "lever"):
        space = MASKED[name]
        distribution = MAPPER.distribution(space, parameters[name], masks[name])
        nvec = np.atleast_1d(space.nvec if name == "lever" else space.n)
        parts = np.split(np.asarray(masks[name]), np.cumsum(nvec)[:-1])
        total = 0.0
        for index in np.ndindex(*nvec):
            action = np.asarray(index).reshape(space.shape) + space.start
            probability = float(jnp.exp(distribution.log_prob(action)))
            allowed = all(part[i] for part, i in zip(parts, index, strict=True))
            assert (probability > 0.0) == allowed
            total += probability
        assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("mask", [[1, 0, 0, 1], [0, 0, 0, 0]])
def test_bits_that_masks_exclude_are_zero_with_probability_one(mask):
    parameters, _ = masked_case()
    distribution = MAPPER.distribution(MASKED["lamps"], parameters["lamps"], jnp.array(mask, bool))
    total = 0.0
    for bits in itertools.product((0, 1), repeat=4):
        probability = float(jnp.exp(distribution.log_prob(np.reshape(bits, (2, 2)))))
        assert (probability > 0) == all(mask[i] for i in range(4) if bits[i])
        total += probability
    assert total == pytest.approx(1.0, abs=1e-6)
    if not any(mask):
        assert distribution.entropy() == 0 and distribution.log_prob(np.zeros((2, 2))) == 0


def test_masked_draws_and_modes_are_allowed():
    parameters, masks = masked_case((300,))
    distribution = MAPPER.distribution(MASKED, parameters, masks)
    for action in (distribution.sample(random.key(1)), distribution.mode()):
        gear = jnp.take_along_axis(masks["gear"], action["gear"][:, None] - 1, axis=1)
        lever = action["lever"] + jnp.array([[-5, 2]])
        assert gear.all() and jnp.take_along_axis(masks["lever"], lever, axis=1).all()
        assert (action["lamps"].reshape(300, 4) <= masks["lamps"]).all() and action["lamps"].any()
        assert jnp.isfinite(distribution.log_prob(action)).all()


def test_gradients_through_masks_are_finite_and_zero_where_excluded():
    parameters, masks = masked_case((300,))
    masks["gear"] = masks["gear"].at[0].set(False)  # nothing allowed: as if unmasked

    @jax.jit
    @jax.grad
    def gradient(parameters):
        distribution = MAPPER.distribution(MASKED, parameters, masks)
        action = jax.lax.stop_gradient(distribution.sample(random.key(1)))
        return (distribution.log_prob(action) + distribution.entropy()).sum()

    found = gradient(parameters)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    for name in ("gear", "lever"):
        assert (jnp.where(masks[name], 0.0, found[name]["logits"])[1:] == 0.0).all()
        assert (found[name]["logits"] != 0.0).any()
    assert (found["gear"]["logits"][0] != 0.0).all()
    lamps = found["lamps"]["logits"].reshape(300, 4)
    assert ((lamps == 0.0) == ~masks["lamps"]).all()


def test_a_mask_for_what_has_no_categories_is_refused():
    parameters, _ = masked_case()
    with pytest.raises(SpaceError, match="Box: cannot be masked"):
        MAPPER.distribution(MASKED, parameters, {"wheel": jnp.ones(2, bool)})


# --- rules ----------------------------------------------------------------------------

CAR = Dict(
    {
        "throttle": Box(0.0, 1.0, ()),
        "gear": Discrete(3),
        "arm": Dict({"grip": Box(-1.0, 1.0, (2,)), "reach": Box(0.0, 1.0, ())}),
    }
)


def kinds(space, *rules):
    """Class of the distribution of every head, nested as the space."""
    mapper = DistributionMapper(rules=rules)
    distribution = mapper.distribution(space, zeros(mapper.parameters(space), (2,)))
    log_prob = jax.eval_shape(lambda: distribution.log_prob(distribution.sample(random.key(0))))
    assert log_prob.shape == (2,)
    return kinds_of(distribution)


def kinds_of(distribution):
    if not isinstance(distribution, Product):
        return type(distribution)
    return {name: kinds_of(part) for name, part in distribution.parts.items()}


def car(throttle=DiagonalGaussian, grip=DiagonalGaussian, reach=DiagonalGaussian):
    return {"throttle": throttle, "gear": Categorical, "arm": {"grip": grip, "reach": reach}}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), car()),
        (((Box, "beta"),), car(Beta, Beta, Beta)),
        (((Box, SquashedGaussian),), car(*3 * [SquashedGaussian])),
        ((("throttle", "beta"),), car(throttle=Beta)),
        ((("arm/reach", "beta"),), car(reach=Beta)),
        (((Box(0.0, 1.0, ()), "beta"),), car(throttle=Beta, reach=Beta)),
        (((Box(0.0, 2.0, ()), "beta"), (MultiBinary, "bernoulli")), car()),
        (
            ((Box, "squashed_gaussian"), ("throttle", "beta")),
            car(Beta, SquashedGaussian, SquashedGaussian),
        ),
        ((("throttle", "beta"), (Box, "diagonal_gaussian")), car()),
        (
            ((Box, "beta"), (Box(0.0, 1.0, ()), "squashed_gaussian"), ("throttle", Beta)),
            car(Beta, Beta, SquashedGaussian),
        ),
    ],
)
def test_rules_choose_by_space_and_by_head_and_the_last_counts(rules, expected):
    assert kinds(CAR, *rules) == expected


@pytest.mark.parametrize(
    ("name", "space", "shapes", "kind"),
    [
        ("categorical", Discrete(3), {"logits": (3,)}, Categorical),
        ("multi_categorical", MultiDiscrete([2, 3]), {"logits": (5,)}, MultiCategorical),
        ("bernoulli", MultiBinary(4), {"logits": (4,)}, Bernoulli),
        ("diagonal_gaussian", UNIT, {"mean": (2,), "log_std": (2,)}, DiagonalGaussian),
        ("squashed_gaussian", UNIT, {"mean": (2,), "log_std": (2,)}, SquashedGaussian),
        ("beta", UNIT, {"alpha": (2,), "beta": (2,)}, Beta),
    ],
)
def test_every_distribution_is_chosen_by_its_name_and_by_its_class(name, space, shapes, kind):
    for choice in (name, kind):
        assert DistributionMapper(rules=((space, choice),)).parameters(space) == shapes
        assert kinds(space, (space, choice)) is kind


@pytest.mark.parametrize("name", ["squashed_gaussian", "beta"])
@pytest.mark.parametrize("space", [Box([0.0, -2.0], [1.0, 7.0]), Box(0, 255, (2,), np.uint8)])
def test_bounded_distributions_give_the_environment_what_they_drew(name, space):
    mapper = DistributionMapper(rules=((Box, name),))
    distribution = mapper.distribution(space, zeros(mapper.parameters(space), (50,)))
    drawn = distribution.sample(random.key(0))
    received = mapper.to_env(space, drawn)
    assert received.dtype == space.dtype and jnp.isfinite(distribution.log_prob(drawn)).all()
    want = drawn if space.dtype == np.float32 else jnp.round(drawn)
    assert (received == want).all()
    for action in np.asarray(received):
        space.validate(action)


def test_rules_from_lists_are_values_as_those_from_tuples():
    mapper = DistributionMapper(rules=[["throttle", "beta"], [Box, "beta"]])
    same = DistributionMapper(rules=(("throttle", "beta"), (Box, "beta")))
    assert mapper == same and hash(mapper) == hash(same) and mapper != MAPPER


@dataclasses.dataclass(frozen=True)
class Tempered:
    """Categories at a temperature."""

    temperature: float

    def shapes(self, space):
        return {"logits": (space.n,), "shift": ()}

    def build(self, space, parameters):
        logits = parameters["logits"] + parameters["shift"][..., None]
        return Categorical(logits / self.temperature, space.start)


def test_a_family_of_ones_own_serves_the_spaces_of_its_rule():
    mapper = DistributionMapper(rules=((Discrete, Tempered(2.0)),))
    assert hash(mapper) == hash(DistributionMapper(rules=((Discrete, Tempered(2.0)),)))
    assert mapper.parameters(CAR)["gear"] == {"logits": (3,), "shift": ()}
    parameters = {"logits": jnp.array([1.0, 2.0, 4.0]), "shift": jnp.ones(())}
    distribution = mapper.distribution(Discrete(3), parameters)
    assert distribution.logits.tolist() == [1.0, 1.5, 2.5]
    with pytest.raises(ConfigError, match=r"\['logits'\]: got shape \(2,\)"):
        mapper.distribution(Discrete(3), {**parameters, "logits": jnp.ones(2)})


def test_the_logits_of_a_family_of_ones_own_are_masked():
    mapper = DistributionMapper(rules=((Discrete, Tempered(0.5)),))
    parameters = {"logits": jnp.array([1.0, 2.0, 4.0]), "shift": jnp.ones(())}
    distribution = mapper.distribution(Discrete(3), parameters, jnp.array([True, True, False]))
    assert distribution.mode() == 1 and jnp.exp(distribution.log_prob(2)) == 0.0


@dataclasses.dataclass(frozen=True)
class Together:
    """One distribution for a whole Dict: a Product that shares its mean."""

    def shapes(self, space):
        return {"mean": ()}

    def build(self, space, parameters):
        mean = parameters["mean"]
        parts = {
            name: DiagonalGaussian(
                jnp.broadcast_to(mean[..., None], (*mean.shape, 2)), jnp.zeros(2)
            )
            for name in space
        }
        return Product(parts)


def test_a_family_may_serve_a_whole_dict():
    space = Dict({"arms": Dict({"left": UNIT, "right": UNIT}), "gear": Discrete(3)})
    mapper = DistributionMapper(rules=(("arms", Together()),))
    shapes = {"arms": {"mean": ()}, "gear": {"logits": (3,)}}
    assert mapper.parameters(space) == shapes
    distribution = mapper.distribution(space, zeros(shapes, (4,)))
    action = mapper.to_env(space, distribution.sample(random.key(0)))
    assert action["arms"]["left"].shape == (4, 2) and distribution.entropy().shape == (4,)
    for i in range(4):
        space.validate(jax.tree.map(lambda leaf: leaf[i], action))  # noqa: B023


@dataclasses.dataclass(frozen=True)
class Unnamed:
    """Categories whose parameter is not called logits."""

    def shapes(self, space):
        return {"scores": (space.n,)}

    def build(self, space, parameters):
        return Categorical(parameters["scores"], space.start)


class UnnamedBits(Unnamed):
    def shapes(self, space):
        return {"scores": space.shape}


def test_a_mask_without_logits_is_refused():
    mapper = DistributionMapper(rules=((Discrete, Unnamed()),))
    with pytest.raises(SpaceError, match=r"cannot be masked, for it has \['scores'\]"):
        mapper.distribution(Discrete(2), {"scores": jnp.zeros(2)}, jnp.ones(2, bool))
    mapper = DistributionMapper(rules=((MultiBinary, UnnamedBits()),))
    with pytest.raises(SpaceError, match=r"cannot be masked, for it has \['scores'\]"):
        mapper.distribution(MultiBinary(2), {"scores": jnp.zeros(2)}, jnp.ones(2, bool))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ((Box, "betta"), r"rules\[0\]: unknown distribution 'betta'; did you mean 'beta'"),
        ((Box, Product), "expected a name .*, or an object with the methods shapes and build"),
        ((Box, Tempered), "expected a name"),
        ((Box, 3), "got 3, expected a name"),
        ((int, "beta"), "got <class 'int'>, expected a class of spaces, a space or the name"),
        ((None, "beta"), "got None, expected a class of spaces"),
        ((Box,), r"got \(.*\), expected a pair"),
        ("beta", "got 'beta', expected a pair"),
    ],
)
def test_wrong_rules_are_refused_at_once(rule, message):
    with pytest.raises(ConfigError, match=message):
        DistributionMapper(rules=(rule,))


def test_a_family_without_a_hash_is_refused():
    mutable = dataclasses.make_dataclass(
        "Mutable", [], namespace={"shapes": Tempered.shapes, "build": Tempered.build}
    )
    with pytest.raises(ConfigError, match="got a Mutable without a hash"):
        DistributionMapper(rules=((Discrete, mutable()),))


@pytest.mark.parametrize(
    ("space", "rule", "message"),
    [
        (CAR, ("throtle", "beta"), "got the head 'throtle'.*did you mean 'throttle'"),
        (CAR, ("grip", "beta"), "got the head 'grip'.*did you mean 'arm/grip'"),
        (UNIT, ("throttle", "beta"), r"got the head 'throttle'.*of Box\[2\]; no names are known"),
        (CAR, ("gear", "beta"), "head 'gear': Beta: got Discrete, expected Box"),
        (CAR, (Box, "categorical"), "head 'throttle': Categorical: got Box, expected Discrete"),
        (CAR, ("arm", "beta"), "head 'arm': Beta: got Dict, expected Box"),
        (
            Box([0.0, -np.inf], [1.0, 1.0]),
            (Box, "beta"),
            r"^DistributionMapper: Beta: got a Box with low -inf at entry \(1,\)",
        ),
        (
            Dict({"gas": Box(0.0, np.inf, ())}),
            (Box, "squashed_gaussian"),
            r"head 'gas': SquashedGaussian: got a Box with high inf at entry \(\)",
        ),
    ],
)
def test_rules_that_do_not_fit_the_space_are_refused(space, rule, message):
    mapper = DistributionMapper(rules=(rule,))
    with pytest.raises(ConfigError, match=message):
        mapper.parameters(space)
    with pytest.raises(ConfigError, match=message):
        mapper.distribution(space, {})


@pytest.mark.parametrize("name", ["squashed_gaussian", "beta"])
def test_action_heads_produce_what_bounded_distributions_need(name):
    mapper = DistributionMapper(rules=((Box, name),))
    head = ActionHead(CAR, mapper)
    variables = jax.eval_shape(head.init, random.key(0), jnp.zeros((1, 5)))
    # The spread of a squashed Gaussian is a weight of its own, as that of a Gaussian.
    spreads = {weight for weight in variables["params"] if weight.endswith("log_std")}
    boxes = ("throttle", "arm/grip", "arm/reach")
    assert spreads == ({f"{box}/log_std" for box in boxes} if name != "beta" else set())

    def log_prob(variables, features):
        distribution = mapper.distribution(CAR, head.apply(variables, features))
        return distribution.log_prob(distribution.mode())

    assert jax.eval_shape(log_prob, variables, jnp.ones((7, 5))).shape == (7,)
