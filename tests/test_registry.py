import collections
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mazejax
from mazejax import cli, registry
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


@pytest.mark.parametrize("name", ["", "two words", "a=b", "a,b", "a{b", "a:b", 3, None])
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


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Write a module into a folder where it can be imported; what it registers is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    for table in (registry.blocks, registry.environments, registry.networks):
        for names in ("_factories", "_modules"):
            monkeypatch.setattr(table, names, {**getattr(table, names)})

    def write(name, *lines):
        (tmp_path / f"{name}.py").write_text("\n".join(("from mazejax import registry", *lines)))

    return write


@pytest.fixture
def own_table(monkeypatch, table):
    monkeypatch.setattr(registry, "environments", table)
    return table


OWN_ENV = """
@registry.register("MyEnv-v0")
class MyEnv:
    def __init__(self, size=1):
        self.size = size
"""


def test_a_name_with_its_module_is_found_after_that_is_imported(own_table, write_module):
    write_module("own_envs_of_test", OWN_ENV)
    assert own_table.names() == ()
    env = registry.make("own_envs_of_test:MyEnv-v0", size=3)
    assert (type(env).__name__, env.size) == ("MyEnv", 3)
    assert own_table.names() == ("MyEnv-v0",)
    assert own_table.get("MyEnv-v0") is own_table.get("own_envs_of_test:MyEnv-v0") is type(env)
    with pytest.raises(ConfigError, match="'own_envs_of_test:MyEnv-v0' has no parameter 'sise'"):
        registry.make("own_envs_of_test:MyEnv-v0", sise=3)


def test_in_files_a_name_stands_with_the_module_that_it_was_asked_for_with(own_table, write_module):
    write_module("own_named_envs_of_test", OWN_ENV)
    kind = own_table.get("own_named_envs_of_test:MyEnv-v0")
    own_table.register("Other-v0", make)
    assert own_table.name_in_files(kind) == "own_named_envs_of_test:MyEnv-v0"
    assert own_table.name_of(kind) == "MyEnv-v0" and own_table.name_in_files(make) == "Other-v0"


def test_a_module_may_register_a_namespace(own_table, write_module):
    write_module(
        "own_space_of_test",
        "registry.environments.register_namespace('own', lambda: ['Maze'], lambda name: name)",
    )
    assert own_table.get("own_space_of_test:own/Maze")() == "Maze"


@pytest.mark.parametrize(
    "name, said",
    [
        ("no_such_module:Maze-v0", "cannot import no_such_module: No module named .*; call from"),
        ("needy_of_test:Maze-v0", "cannot import needy_of_test: No module named 'no_such_package'"),
        ("empty_of_test:Maze-v0", "empty_of_test registers no environment 'Maze-v0'; no names are"),
        ("typed_of_test:MyEnv-v1", "registers no environment 'MyEnv-v1'; did you mean 'MyEnv-v0'"),
        (":Maze-v0", "expected my_package.my_module:NAME"),
        ("..up:Maze-v0", "expected my_package.my_module:NAME"),
    ],
)
def test_what_cannot_be_imported_or_is_not_registered_there_is_told(
    own_table, write_module, name, said
):
    own_table.register("Other-v0", "somewhere:else")
    write_module("needy_of_test", "import no_such_package")
    write_module("empty_of_test")
    write_module("typed_of_test", OWN_ENV)
    with pytest.raises(ConfigError, match=f"^environment '{name}': .*{said}"):
        own_table.get(name)


OWN_RUN = """
import flax.linen as nn
import jax.numpy as jnp
import mazejax
from mazejax.networks import MLPActorCritic
from mazejax.networks.blocks import Block

@registry.blocks.register("WavesOfTest")
class Waves(Block):
    features: int = 8

    @nn.compact
    def forward(self, x):
        return jnp.sin(nn.Dense(self.features)(x))

@registry.networks.register("small_of_test")
class Small(MLPActorCritic):
    pass

@registry.register("PoleOfTest-v0")
def make():
    return mazejax.make("CartPole-v1")
"""


def test_a_run_of_names_with_their_module_loads_in_a_fresh_process(
    tmp_path, write_module, monkeypatch, capsys
):
    write_module("own_run_of_test", OWN_RUN)
    monkeypatch.chdir(tmp_path)
    hidden = "algorithm.network.builder.hidden"
    sizes = ["algorithm.num_envs=2", "algorithm.num_steps=4", "total_steps=8"]
    quiet = ["run.progress=none", "run.num_evaluations=0"]
    names = ["env=own_run_of_test:PoleOfTest-v0", f"{hidden}.block=own_run_of_test:WavesOfTest"]
    given = ["algorithm/network=perception", f"{hidden}.features=5", *sizes, *quiet]
    assert cli.main(["train", *names, *given]) == 0
    (run,) = tmp_path.glob("runs/PoleOfTest-v0-ppo-*")
    environment = {**os.environ, "PYTHONPATH": str(Path(mazejax.__file__).parents[1])}
    script = "import sys; from mazejax import cli; sys.path.remove(''); sys.exit(cli.main())"
    done = subprocess.run(
        [sys.executable, "-c", script, "evaluate", str(run), "episodes=2"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert "2 episodes" in done.stdout, done.stdout + done.stderr


def test_a_template_is_written_with_its_module(write_module):
    write_module("own_template_of_test", OWN_RUN)
    network = {"template": "own_template_of_test:small_of_test", "hidden": [4]}
    run = mazejax.RunContext("ppo", "CartPole-v1", network=network)
    assert run.config()["algorithm"]["network"]["template"] == network["template"]


def test_from_the_command_line_the_current_folder_has_modules(
    own_table, tmp_path, monkeypatch, capsys
):
    (tmp_path / "own_checked_of_test.py").write_text(
        "from mazejax import register\nregister('Checked-v0', lambda: 'the env')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = [*sys.path]
    monkeypatch.setattr("mazejax.envs.check.check_env", _Report)
    assert cli.main(["check", "own_checked_of_test:Checked-v0"]) == 0
    assert "checked the env" in capsys.readouterr().out
    assert cli.main(["plan", "env=own_checked_of_test:Chekced-v0", "total_steps=99"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("env: environment 'own_checked_of_test:Chekced-v0': own_checked_of_test")
    assert "did you mean 'Checked-v0'" in err and sys.path == before


class _Report:
    errors = ()

    def __init__(self, env, strict):
        self.env = env

    def __str__(self):
        return f"checked {self.env}"
