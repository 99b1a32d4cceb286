"""Calls of foreign modules as learners make them: without rngs, and with nothing that changes.

What a module holds besides its parameters, such as the statistics of a batch normalization,
stays as it was initialized. One that would change it, or draw random numbers, is refused
while it is traced.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.errors import InvalidRngError, ModifyScopeVariableError

from mazejax.errors import ConfigError
from mazejax.networks.policy import weights

_NO_STREAM = "No RngStream named "
"""What the KeyErrors of nnx begin with."""

Path = tuple[str, ...]
"""The names of a module and of those around it, the outermost first."""


def call_pure(module: nn.Module, label: str, *inputs: Any) -> Any:
    """What a bound module makes of the inputs.

    Raises ConfigError that begins with `label` for a module that draws from an rng that
    nobody gives, or that changes what it holds where that is not mutable.
    """
    try:
        outputs = module(*inputs)
    except InvalidRngError as error:
        raise ConfigError(_drawn(label, str(error))) from None
    except KeyError as error:
        if not str(error.args[0]).startswith(_NO_STREAM):
            raise
        raise ConfigError(_drawn(label, error.args[0])) from None
    except ModifyScopeVariableError as error:
        changed, _ = _changed(module, inputs)
        raise ConfigError(_moved(label, changed[0] if changed else ("what it holds",))) from error
    changed, bridged = _changed(module, inputs)
    for collection, *path in changed:
        # Changes of nnx modules are dropped without a word; what linen modules sow is as well,
        # and is meant to be.
        if any(tuple(path[: len(one)]) == one for one in bridged):
            raise ConfigError(_moved(label, (collection, *path)))
    return outputs


def _changed(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[Path], list[Path]]:
    """What a call would change though nobody lets it, each (collection, *path); nnx modules in it.

    Nothing is computed: what comes out of a traced call as it went in has not changed.
    """
    held = dict(module.variables)
    state = {
        name: part
        for name, part in held.items()
        if name not in weights(held) and not module.is_mutable_collection(name)
    }
    if not state or module.is_initializing():
        return [], []
    unbound, _ = module.unbind()
    # Their values do not matter to whether anything changes.
    rngs = dict.fromkeys(module.scope.rngs if module.scope else (), jax.random.key(0))
    bridged: list[Path] = []

    def note(call: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if type(context.module).__module__.startswith("flax.nnx"):
            bridged.append(context.module.path)
        return call(*args, **kwargs)

    def call(state: dict[str, Any]) -> Any:
        with nn.intercept_methods(note):
            return unbound.apply({**held, **state}, *inputs, rngs=rngs, mutable=list(state))[1]

    traced, after = jax.make_jaxpr(call, return_shape=True)(state)
    before = dict(zip(_paths(state), traced.jaxpr.invars, strict=True))
    left = dict(zip(_paths(after), traced.jaxpr.outvars, strict=True))
    return [path for path in before if left.get(path) is not before[path]], bridged


def _paths(tree: Any) -> list[Path]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [tuple(str(getattr(key, "key", key)) for key in path) for path, _ in leaves]


def _drawn(label: str, said: str) -> str:
    name = (said.split('"') if '"' in said else said.split("'"))[1]
    return (
        f"{label}: draws from the rng {name!r}, and learners give none; make the module "
        f"deterministic, such as nn.Dropout(0.1, deterministic=True), and give a Dropout of nnx "
        f"no rngs"
    )


def _moved(label: str, path: Path) -> str:
    return (
        f"{label}: would change {'/'.join(path)} while it acts, but only parameters learn; give a "
        f"BatchNorm use_running_average=True, or use a LayerNorm"
    )
