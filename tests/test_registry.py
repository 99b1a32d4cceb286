import collections
import importlib.metadata

import pytest

from mazejax import registry
from mazejax.errors import ConfigError
from mazejax.registry import Registry


@pytest.fixture
def table():
    return Registry("environment", entry_points="mazejax.no_such_group")


@pytest.fixture
def install(monkeypatch):
    """Pretend that installed packages declare these entry points, {name: "module:attribute"}."""

    def declare(*points):
        def entry_points(group):
            return [importlib.metadata.EntryPoint(n, v, group) for n, v in points]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    return declare


def make(size=1):
    return ("made", size)


def missing_package():
    raise ModuleNotFoundError("No module named 'brax'", name="brax")


def test_a_registered_factory_is_found_by_its_name(table):
    assert table.register("Maze-v0", make) is make
    assert table.get("Maze-v0") is make


def test_register_is_a_decorator_that_returns_what_it_decorates(table):
    @table.register("Maze-v0")
    def factory():
        return 3

    assert factory() == 3 and table.get("Maze-v0") is factory


def test_text_is_imported_when_its_name_is_asked_for_and_not_before(table):
    table.register("Broken-v0", "mazejax.no_such_module:make")
    table.register("Maze-v0", "collections:OrderedDict.fromkeys")
    assert table.names() == ("Broken-v0", "Maze-v0")
    assert table.get("Maze-v0")("ab") == collections.OrderedDict.fromkeys("ab")
    with pytest.raises(ConfigError, match=r"'Broken-v0': cannot load mazejax\.no_such_module:make"):
        table.get("Broken-v0")


def test_a_name_that_is_taken_is_an_error_unless_replaced(table):
    table.register("Maze-v0", "collections:OrderedDict")
    with pytest.raises(ConfigError, match="registered already: collections:OrderedDict; choose"):
        table.register("Maze-v0", make)
    table.register("Maze-v0", make, replace=True)
    assert table.get("Maze-v0") is make


@pytest.mark.parametrize("name", ["", "two words", "a=b", "a,b", "a{b", 3, None])
def test_names_that_the_command_line_could_not_pass_are_refused(table, name):
    with pytest.raises(ConfigError, match="environment name: got"):
        table.register(name, make)


def test_an_unknown_name_meets_the_nearest_known_ones(table):
    table.register("CartPole-v1", make)
    table.register("Pendulum-v1", make)
    with pytest.raises(
        ConfigError, match="unknown environment 'cartpol-v1'; did you mean 'CartPole-v1'"
    ):
        table.get("cartpol-v1")
    with pytest.raises(ConfigError, match="known names: CartPole-v1, Pendulum-v1"):
        table.get("xyz")


def test_a_value_that_is_no_name_is_a_config_error(table):
    with pytest.raises(ConfigError, match="got 3, expected a name as a string"):
        table.get(3)


def test_a_namespace_is_listed_only_when_it_is_asked_for(table):
    calls = []
    table.register("CartPole-v1", make)
    table.register_namespace(
        "gym",
        names=lambda: calls.append("listed") or ["Breakout", "Asterix"],
        factory=lambda name, **options: (name, options),
    )
    assert table.get("CartPole-v1") is make
    with pytest.raises(ConfigError, match="did you mean 'CartPole-v1'"):
        table.get("CartPol-v1")
    assert table.names(namespaces=False) == ("CartPole-v1",)
    assert calls == []
    assert table.names() == ("CartPole-v1", "gym/Asterix", "gym/Breakout")
    assert table.get("gym/Breakout")(size=3) == ("Breakout", {"size": 3})


def test_names_in_a_namespace_are_suggested_with_and_without_the_prefix(table):
    table.register_namespace("gym", names=lambda: ["Breakout-MinAtar"], factory=make)
    for wrong in ("gym/Brekout-MinAtar", "Breakout-MinAtar"):
        with pytest.raises(ConfigError, match="did you mean 'gym/Breakout-MinAtar'"):
            table.get(wrong)


def test_a_namespace_whose_package_is_missing_says_so_and_is_not_listed(table):
    table.register("CartPole-v1", make)
    table.register_namespace("brax", names=missing_package, factory=make)
    assert table.names() == ("CartPole-v1",)
    with pytest.raises(ConfigError, match="'brax' is not installed; pip install brax"):
        table.get("brax/ant")


def test_a_prefix_is_one_new_word(table):
    table.register_namespace("gym", names=list, factory=make)
    for prefix in ("gym", "a/b"):
        with pytest.raises(ConfigError, match=f"namespace '{prefix}'"):
            table.register_namespace(prefix, names=list, factory=make)


def test_entry_points_of_installed_packages_join_the_table(table, install):
    install(("Plugin-v0", "collections:OrderedDict"))
    table.register("Maze-v0", make)
    assert table.names() == ("Maze-v0", "Plugin-v0")
    assert table.get("Plugin-v0") is collections.OrderedDict


def test_two_packages_with_one_name_are_an_error_for_that_name_alone(table, install):
    install(("Plugin-v0", "collections:OrderedDict"), ("Plugin-v0", "collections:Counter"))
    table.register("Maze-v0", make)
    assert table.get("Maze-v0") is make
    with pytest.raises(ConfigError, match=r"ambiguous: .*Counter.* another one is .*OrderedDict"):
        table.get("Plugin-v0")
    table.register("Plugin-v0", make, replace=True)
    assert table.get("Plugin-v0") is make


def test_name_of_finds_what_is_registered_by_value_or_as_text(table):
    table.register("Maze-v0", make)
    table.register("Counter-v0", "collections:Counter")
    table.register("Other-v0", "mazejax.no_such_module:OrderedDict")
    assert table.name_of(make) == "Maze-v0"
    assert table.name_of(collections.Counter) == "Counter-v0"
    assert table.name_of(int) is None


def test_every_built_in_name_resolves():
    assert set(registry.environments.names(namespaces=False)) >= {
        "Acrobot-v1",
        "CartPole-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
    }
    for table in (registry.environments, registry.wrappers, registry.algorithms):
        for name in table.names(namespaces=False):
            assert callable(table.get(name)), name


def test_make_hands_its_parameters_to_what_register_entered(monkeypatch):
    monkeypatch.setattr(registry, "environments", Registry("environment", "mazejax.no_such_group"))
    registry.register("Maze-v0", make)
    assert registry.make("Maze-v0", size=3) == ("made", 3)
    with pytest.raises(ConfigError, match="'Maze-v0' has no parameter 'sise'; did you mean 'size'"):
        registry.make("Maze-v0", sise=3)
    with pytest.raises(ConfigError, match="unknown environment 'Maze-v1'; did you mean 'Maze-v0'"):
        registry.make("Maze-v1")
