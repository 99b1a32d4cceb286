import sys
import types

import pytest

from mazejax._lazy import lazy_names


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    names = {"sqrt": "math", "json": "json", "path": "os"}
    module.__getattr__, module.__dir__, module.__all__ = lazy_names("shop", names)
    return module


def test_a_name_is_imported_when_it_is_first_used_and_kept(package):
    import math

    assert "sqrt" not in vars(package)
    assert package.sqrt is math.sqrt
    assert vars(package)["sqrt"] is math.sqrt


def test_dir_and_all_list_the_names_without_importing_them(package):
    assert package.__all__ == ["json", "path", "sqrt"]
    assert {"json", "path", "sqrt", "__name__"} <= set(dir(package))
    assert not {"json", "path", "sqrt"} & vars(package).keys()


def test_an_unknown_name_is_an_attribute_error_with_the_nearest_one(package):
    with pytest.raises(AttributeError, match="'shop' has no attribute 'sqtr'; did you mean 'sqrt'"):
        _ = package.sqtr
    assert not hasattr(package, "__path__")


def test_a_submodule_stands_for_itself():
    import mazejax.spaces.simple

    getattribute, _, _ = lazy_names("mazejax.spaces", {"simple": "mazejax.spaces.simple"})
    assert getattribute("simple") is mazejax.spaces.simple


def test_every_public_name_of_the_spaces_exists():
    import mazejax.spaces

    for name in mazejax.spaces.__all__:
        assert getattr(mazejax.spaces, name).__name__ == name
