"""Public names of a package that are imported when they are first used (PEP 562).

`lazy_names` turns one table, name to module, into the three functions and lists that
a package needs for it. Standard library only, so that it costs nothing by itself.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mazejax.errors import did_you_mean


def lazy_names(
    package_name: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from its names and their modules.

    A name whose module is the package's own submodule of that name stands for the
    submodule itself. What was looked up once is kept in the package.

        __getattr__, __dir__, __all__ = lazy_names(__name__, {"Box": "mazejax.spaces.simple"})
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            hint = "" if name.startswith("_") else f"; {did_you_mean(name, modules)}"
            raise AttributeError(f"module {package_name!r} has no attribute {name!r}{hint}")
        module = importlib.import_module(modules[name])
        is_submodule = modules[name] == f"{package_name}.{name}"
        value = module if is_submodule else getattr(module, name)
        setattr(sys.modules[package_name], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package_name]), *modules})

    return __getattr__, __dir__, sorted(modules)
