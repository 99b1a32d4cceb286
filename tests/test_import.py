"""What importing mazejax costs and does, and that everything in it can be imported."""

import importlib
import pathlib
import pkgutil
import subprocess
import sys
import tomllib

import pytest

import mazejax

PACKAGE = pathlib.Path(mazejax.__file__).parent
MODULES = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "mazejax.")]
WITHOUT_JAX = [
    "mazejax",
    "mazejax.errors",
    "mazejax.setup",
    "mazejax.registry",
    "mazejax.spaces.base",
    "mazejax.spaces.simple",
    "mazejax.spaces.composite",
    "mazejax.spaces.convert",
    "mazejax.envs.bridges.gymnasium",
]
HEAVY = {"jax", "jaxlib", "flax", "gymnax", "gymnasium", "hydra", "matplotlib", "orbax", "PIL"}


def test_modules_of_environment_workers_and_the_package_itself_import_no_jax():
    code = (
        "import importlib, sys\n"
        f"for name in {WITHOUT_JAX}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = {HEAVY} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_importing_mazejax_sets_the_xla_flag_and_no_cache(tmp_path):
    code = (
        "import os, mazejax\n"
        "print(os.environ.get('XLA_FLAGS'), os.environ.get('JAX_COMPILATION_CACHE_DIR'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        "None",
    ], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_folder_with_modules_is_a_package():
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_module_imports_and_has_all_the_names_that_it_promises(name):
    module = importlib.import_module(name)
    assert module.__doc__ or not vars(module).get("__file__"), f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public) is not None, f"{name}.{public}"


def test_the_version_is_that_of_the_project_file():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert mazejax.__version__ == project["version"]
