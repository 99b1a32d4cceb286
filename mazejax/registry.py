"""Tables from names to factories: environments, wrappers, algorithms, networks and their blocks.

A factory is a callable or the text "module:attribute", which is imported when its name is
first asked for: so a table of everything costs nothing to load. What the factories make
is up to the rooms above; installed packages add names through entry points.
"""

import difflib
import functools
import importlib
import importlib.metadata
import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mazejax.errors import ConfigError, did_you_mean

Factory = Callable[..., Any]
F = TypeVar("F", bound=Factory)


class Registry:
    """One table of names, for example of environments.

    Names come from `register`, from namespaces such as `gymnax/NAME`, which are listed
    and loaded only when asked for, and from entry points of installed packages. The name
    `my_package.blocks:NAME` imports that module, which registers NAME, before it is looked up.
    """

    def __init__(self, kind: str, entry_points: str) -> None:
        self.kind = kind
        """What is registered, in the singular, for messages."""
        self._entry_point_group = entry_points
        self._factories: dict[str, Factory | str] = {}
        self._namespaces: dict[str, tuple[Factory | str, Factory | str]] = {}
        self._conflicts: dict[str, str] = {}
        self._modules: dict[str, str] = {}
        """By name the module that was said to register it."""
        self._has_entry_points = False

    def register(
        self, name: str, factory: Factory | str | None = None, *, replace: bool = False
    ) -> Any:
        """The factory, after it was entered under the name; without a factory, a decorator.

        A name that is taken is a ConfigError unless `replace` is given.
        """
        if factory is None:
            return functools.partial(self._register_decorated, name, replace)
        self._check_new(name)
        if name in self._factories and not replace:
            raise ConfigError(
                f"{self.kind} {name!r} is registered already: {_describe(self._factories[name])}; "
                f"choose another name, or pass replace=True"
            )
        self._conflicts.pop(name, None)
        self._factories[name] = factory
        return factory

    def register_namespace(self, prefix: str, names: Factory | str, factory: Factory | str) -> None:
        """Enter all `prefix/NAME`: `names()` lists the NAMEs, `factory(NAME, ...)` makes one."""
        self._check_new(prefix)
        if "/" in prefix:
            raise ConfigError(f"{self.kind} namespace {prefix!r}: a prefix is one word without '/'")
        if prefix in self._namespaces:
            raise ConfigError(f"{self.kind} namespace {prefix!r} is registered already")
        self._namespaces[prefix] = (names, factory)

    def get(self, name: str) -> Any:
        """The factory of a name; an unknown name is a ConfigError with the nearest known ones."""
        if not isinstance(name, str):
            raise ConfigError(f"{self.kind}: got {name!r}, expected a name as a string")
        self._load_entry_points()
        if name in self._conflicts:
            raise ConfigError(f"{self.kind} {name!r} is ambiguous: {self._conflicts[name]}")
        if name in self._factories:
            return self._resolve(name, self._factories[name])
        if ":" in name:
            return self._get_from_module(name)
        prefix, slash, local_name = name.partition("/")
        if slash and prefix in self._namespaces:
            known = self._names_in(prefix)
            if name in known:
                factory = self._resolve(name, self._namespaces[prefix][1])
                return functools.partial(factory, local_name)
            raise ConfigError(f"unknown {self.kind} {name!r}; {did_you_mean(name, known)}")
        raise ConfigError(f"unknown {self.kind} {name!r}; {self._suggest(name)}")

    def names(self, namespaces: bool = True) -> tuple[str, ...]:
        """All names, sorted within their namespace; those whose package is missing are left out.

        Listing the namespaces imports the packages behind them.
        """
        self._load_entry_points()
        names = sorted(self._factories)
        for prefix in sorted(self._namespaces) if namespaces else ():
            try:
                names += self._names_in(prefix)
            except MissingPackageError:
                continue
        return tuple(names)

    def name_of(self, factory: Factory) -> str | None:
        """The name under which a factory is registered, None if it is not."""
        self._load_entry_points()
        for name, known in self._factories.items():
            if known is factory:
                return name
            # Only what has the factory's own name is imported to be compared.
            if isinstance(known, str) and known.endswith(f":{factory.__qualname__}"):
                if self._resolve(name, known) is factory:
                    return name
        return None

    def name_in_files(self, factory: Factory) -> str:
        """The name under which a factory is registered; ConfigError with the mend if it is not.

        With the module before it, where that was said: who reads the file may not have
        imported it.
        """
        name = self.name_of(factory)
        if name is None:
            own = factory.__name__
            raise ConfigError(
                f"{self.kind} {own} has no name, so no file could hold it; enter it by "
                f"mazejax.registry.{self.kind}s.register({own!r}, {own})"
            )
        return f"{self._modules[name]}:{name}" if name in self._modules else name

    def _register_decorated(self, name: str, replace: bool, factory: F) -> F:
        self.register(name, factory, replace=replace)
        return factory

    def _check_new(self, name: str) -> None:
        # Names are values on the command line, where these characters mean something else.
        if not isinstance(name, str) or not name or set(name) & set(" \t\n=,:'\"{}[]()"):
            raise ConfigError(
                f"{self.kind} name: got {name!r}, expected a word without spaces, commas, colons, "
                f"'=', quotes or brackets"
            )

    def _get_from_module(self, name: str) -> Any:
        module, _, own = name.partition(":")
        if not all(part.isidentifier() for part in module.split(".")):
            raise ConfigError(f"{self.kind} {name!r}: expected my_package.my_module:NAME")
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f"{self.kind} {name!r}: cannot import {module}: {error}; call from the folder that "
                f"has it, or install it"
            ) from error
        if own not in self._factories and own.partition("/")[0] not in self._namespaces:
            known = self._registered_by(module)
            raise ConfigError(
                f"{self.kind} {name!r}: {module} registers no {self.kind} {own!r}; "
                f"{did_you_mean(own, known)}"
            )
        found = self.get(own)
        self._modules[own] = module
        return found

    def _registered_by(self, module: str) -> list[str]:
        """Names whose factories are defined in the module, or in what is within it."""
        homes = {name: _describe(factory) for name, factory in self._factories.items()}
        return [
            name for name, home in homes.items() if home.startswith((f"{module}:", f"{module}."))
        ]

    def _names_in(self, prefix: str) -> list[str]:
        lister = self._resolve(prefix, self._namespaces[prefix][0])
        try:
            local_names: Iterable[str] = lister()
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"{self.kind} {prefix}/...: the package {error.name!r} is not installed; "
                f"pip install {error.name}"
            ) from error
        return sorted(f"{prefix}/{name}" for name in local_names)

    def _suggest(self, name: str) -> str:
        # The namespaces are listed, which costs imports, only if no plain name is near.
        plain = self.names(namespaces=False)
        if difflib.get_close_matches(name.lower(), [known.lower() for known in plain], n=1):
            return did_you_mean(name, plain)
        return did_you_mean(name, self.names())

    def _resolve(self, name: str, factory: Factory | str) -> Factory:
        if callable(factory):
            return factory
        module, _, attribute = factory.partition(":")
        try:
            found: Factory = operator.attrgetter(attribute)(importlib.import_module(module))
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{self.kind} {name!r}: cannot load {factory}: {error}") from error
        return found

    def _load_entry_points(self) -> None:
        if self._has_entry_points:
            return
        self._has_entry_points = True
        for point in importlib.metadata.entry_points(group=self._entry_point_group):
            target = f"{point.module}:{point.attr}"
            known = self._factories.setdefault(point.name, target)
            if known != target:
                self._conflicts[point.name] = (
                    f"an installed package registers {target} and another one is "
                    f"{_describe(known)}; uninstall one of them, or register the name again "
                    f"with replace=True"
                )


class MissingPackageError(ConfigError):
    """A namespace needs a package that is not installed."""


def _describe(factory: Factory | str) -> str:
    if isinstance(factory, str):
        return factory
    return f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__name__)}"


environments = Registry("environment", entry_points="mazejax.envs")
"""Environments by name; what `mazejax.make` and `env=NAME` look up."""

environments.register("Acrobot-v1", "mazejax.wrappers.factories:make_acrobot")
environments.register("Breakout-v0", "mazejax.wrappers.factories:make_breakout")
environments.register("CartPole-v1", "mazejax.wrappers.factories:make_cartpole")
environments.register("ConnectFour-v0", "mazejax.envs.board_games:make_connect_four")
environments.register("Cutting2D-v0", "mazejax.wrappers.factories:make_cutting2d")
environments.register("Foraging-v0", "mazejax.envs.foraging:make_foraging")
environments.register("GridMaze-v0", "mazejax.wrappers.factories:make_grid_maze")
environments.register("JobShop-v0", "mazejax.envs.job_shop:make_job_shop")
environments.register("LandmarkTour-v0", "mazejax.wrappers.factories:make_landmark_tour")
environments.register("MountainCar-v0", "mazejax.wrappers.factories:make_mountain_car")
environments.register(
    "MountainCarContinuous-v0", "mazejax.wrappers.factories:make_mountain_car_continuous"
)
environments.register("Pendulum-v1", "mazejax.wrappers.factories:make_pendulum")
environments.register("TMaze-v0", "mazejax.wrappers.factories:make_t_maze")
environments.register("TicTacToe-v0", "mazejax.envs.board_games:make_tic_tac_toe")
environments.register_namespace(
    "brax",
    names="mazejax.envs.bridges.brax:environment_names",
    factory="mazejax.envs.bridges.brax:make",
)
environments.register_namespace(
    "gymnax",
    names="mazejax.envs.bridges.gymnax:environment_names",
    factory="mazejax.envs.bridges.gymnax:make",
)

algorithms = Registry("algorithm", entry_points="mazejax.algorithms")
"""Algorithms by name; what `mazejax.train` and `algorithm=NAME` look up."""

algorithms.register("a2c", "mazejax.algos.a2c:A2C")
algorithms.register("es", "mazejax.algos.es:ES")
algorithms.register("ppo", "mazejax.algos.ppo:PPO")

wrappers = Registry("wrapper", entry_points="mazejax.wrappers")
"""Wrappers by name; what `wrappers.NAME.FIELD` and `mazejax.wrappers.wrap` look up."""

for _module, _names in {
    "aggregation": ("RewardFromEvents",),
    "action": ("DiscretizeActions", "SplitActions"),
    "joint": ("JointObservation",),
    "monitor": ("Monitoring", "ObservationVisualization", "StatisticsLogging"),
    "normalization": ("ObservationNormalization",),
    "preprocessing": ("PreProcessing",),
    "record": ("ActionRecording", "GIFExport", "SpacesRecording"),
    "repeat": ("StepSkip", "StickyActions"),
    "reward": ("ReturnNormalization", "RewardClipping", "RewardScaling"),
    "stacking": ("ObservationStack",),
    "structure": (
        "DictAction",
        "DictObservation",
        "NoDictAction",
        "NoDictObservation",
        "NoDictSpaces",
        "SortedSpaces",
    ),
    "time": ("RandomReset", "TimeLimit"),
}.items():
    for _name in _names:
        wrappers.register(_name, f"mazejax.wrappers.{_module}:{_name}")

rewards = Registry("reward", entry_points="mazejax.rewards")
"""Reward aggregators by name; what the wrapper `RewardFromEvents` looks up."""

rewards.register("CuttingRewardAggregator", "mazejax.envs.cutting2d.reward:CuttingRewardAggregator")
rewards.register("RewardSum", "mazejax.envs.reward:RewardSum")

blocks = Registry("block", entry_points="mazejax.blocks")
"""Blocks of networks by name; what `block: NAME` in the settings of a network looks up."""

for _module, _names in {
    "adapter": ("ModuleBlock",),
    "attention": ("MultiHeadAttentionBlock", "SelfAttentionConvBlock", "SelfAttentionSeqBlock"),
    "convolution": ("StridedConvolutionBlock", "VGGConvolutionBlock"),
    "dense": ("DenseBlock", "LinearOutputBlock"),
    "gnn": ("GNNBlock",),
    "graph": ("GraphAttentionBlock", "GraphConvBlock"),
    "joint": (
        "FlattenDenseBlock",
        "StridedConvolutionDenseBlock",
        "VGGConvolutionDenseBlock",
        "VGGConvolutionGAPBlock",
    ),
    "masking": ("ActionMaskingBlock",),
    "point": ("PointNetFeatureBlock",),
    "pooling": ("GlobalAveragePoolingBlock", "MaskedGlobalPoolingBlock"),
    "recurrent": ("GRUBlock", "LSTMBlock", "LSTMLastStepBlock"),
    "shape": (
        "ConcatenationBlock",
        "CorrelationBlock",
        "FlattenBlock",
        "FunctionalBlock",
        "MultiIndexSlicingBlock",
        "RepeatToMatchBlock",
        "SliceBlock",
    ),
}.items():
    for _name in _names:
        blocks.register(_name, f"mazejax.networks.blocks.{_module}:{_name}")

networks = Registry("network", entry_points="mazejax.networks")
"""Templates of networks by name; what `algorithm/network=NAME` looks up."""

networks.register("custom", "mazejax.networks.custom:CustomActorCritic")
networks.register("mlp", "mazejax.networks.mlp:MLPActorCritic")
networks.register("mlp_policy", "mazejax.networks.mlp:MLPPolicy")
networks.register("per_step_key", "mazejax.networks.per_step_key:PerStepKey")
networks.register("perception", "mazejax.networks.perception:PerceptionActorCritic")
networks.register("perception_policy", "mazejax.networks.perception:PerceptionPolicy")


def make(name: str, **parameters: Any) -> Any:
    """The environment of this name; parameters are its numbers, such as `gravity=9.0`.

    Raises ConfigError for an unknown name or parameter, with the nearest known ones.
    """
    factory = environments.get(name)
    _check_parameters(name, factory, parameters)
    return factory(**parameters)


def register(name: str, factory: Factory | str | None = None, *, replace: bool = False) -> Any:
    """Enter an environment under a name, so that `make(name)` and `env=name` find it.

    The factory is a callable, or text such as "my_package.envs:make"; without a factory
    this is a decorator.
    """
    return environments.register(name, factory, replace=replace)


def _check_parameters(name: str, factory: Factory, parameters: dict[str, Any]) -> None:
    try:
        known = inspect.signature(factory).parameters
    except ValueError:  # some callables written in C have no signature
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for parameter in parameters:
        if parameter not in known:
            raise ConfigError(
                f"environment {name!r} has no parameter {parameter!r}; "
                f"{did_you_mean(parameter, known)}"
            )
