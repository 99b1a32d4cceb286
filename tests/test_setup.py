"""Process set-up, each case in a fresh process: what XLA reads is fixed once a process runs."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
OURS = f"{FLAG}=false"


@pytest.fixture
def run(tmp_path):
    """Run code in a process without our variables; returns what it puts into `result`."""

    def run_code(code, **variables):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nimport json; print(json.dumps(result))"],
            cwd=ROOT,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_code


CONFIGURE = """
import dataclasses, os
from mazejax import setup
result = dataclasses.asdict(setup.configure()) | {"XLA_FLAGS": os.environ.get("XLA_FLAGS")}
result |= {"env": {name: value for name, value in os.environ.items() if name.startswith("JAX_")}}
"""


def with_jaxlib(version, code=CONFIGURE):
    return f"import importlib.metadata\nimportlib.metadata.version = lambda _: {version!r}\n{code}"


def test_the_flag_is_set_where_the_user_has_none(run):
    result = run(CONFIGURE)
    assert result["XLA_FLAGS"] == OURS
    assert result["flags_set"] == [OURS] and result["flags_of_user"] == []
    assert not result["too_late"] and result["problems"] == []


def test_other_flags_of_the_user_are_kept_in_front(run):
    result = run(CONFIGURE, XLA_FLAGS="--xla_dump_to=/tmp/x  --xla_cpu_enable_fast_math=false ")
    assert result["XLA_FLAGS"].split() == [
        "--xla_dump_to=/tmp/x",
        "--xla_cpu_enable_fast_math=false",
        OURS,
    ]
    assert result["flags_set"] == [OURS] and len(result["flags_of_user"]) == 2


@pytest.mark.parametrize("setting", [f"{FLAG}=true", FLAG, OURS])
def test_the_users_own_setting_of_the_flag_wins(run, setting):
    result = run(CONFIGURE, XLA_FLAGS=setting)
    assert result["XLA_FLAGS"] == setting
    assert result["flags_set"] == [] and result["flags_of_user"] == [setting]
    assert any(setting in problem for problem in result["problems"]) == (setting != OURS)


def test_configuring_again_changes_nothing_and_remembers_whose_flag_it_is(run):
    result = run("from mazejax import setup\nsetup.configure(); setup.configure()" + CONFIGURE)
    assert result["XLA_FLAGS"] == OURS and result["flags_set"] == [OURS]
    assert result["cache_source"] == "mazejax"


@pytest.mark.parametrize("version", ["0.10.1", "0.12.0", "0.12.0.dev20270101", "1.0"])
def test_an_untested_jaxlib_is_given_no_flag_that_it_might_refuse(run, version):
    result = run(with_jaxlib(version))
    assert result["XLA_FLAGS"] is None and result["jaxlib"] == version
    assert f"jaxlib {version} is not among the tested versions" in result["problems"][0]


@pytest.mark.parametrize("version", ["0.10.2", "0.11.0", "0.11.2", "0.11.3.dev20261101"])
def test_a_tested_jaxlib_is_given_the_flag(run, version):
    assert run(with_jaxlib(version))["XLA_FLAGS"] == OURS


def test_flags_in_a_file_are_left_alone_and_missed_only_if_missing(run, tmp_path):
    file = tmp_path / "flags"
    file.write_text("--xla_dump_to=/tmp/x\n")
    result = run(CONFIGURE, XLA_FLAGS=str(file))
    assert result["XLA_FLAGS"] == str(file) and f"add the line {OURS}" in result["problems"][0]
    file.write_text(f"--xla_dump_to=/tmp/x\n{OURS}\n")
    assert run(CONFIGURE, XLA_FLAGS=str(file))["problems"] == []


def test_status_changes_nothing(run):
    code = "import os\nbefore = None\nfrom mazejax import setup\nbefore = dict(os.environ)\n"
    assert run(code + "setup.status()\nresult = before == dict(os.environ)")


def test_jax_starts_with_the_flag_and_it_is_then_not_too_late(run):
    code = """
import jax
from mazejax import setup
setup.configure()
total = float(jax.numpy.ones(3).sum())
result = [total, setup.configure().too_late, setup.status().problems]
"""
    assert run(code) == [3.0, False, []]


def test_too_late_is_said_once_and_the_flags_stay_as_jax_read_them(run):
    code = """
import os, warnings
import jax
jax.devices()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from mazejax import setup
    setup.configure(); late = setup.configure().too_late
result = [late, os.environ.get("XLA_FLAGS"), [str(w.message) for w in caught]]
"""
    late, flags, messages = run(code)
    assert late and flags is None and len(messages) == 1
    assert "import mazejax before the first jax computation" in messages[0]


def test_programs_are_cached_in_the_users_cache_folder(run, tmp_path):
    result = run(CONFIGURE)
    directory = str(tmp_path / ".cache" / "mazejax" / "xla")
    assert result["cache_directory"] == directory and result["cache_source"] == "mazejax"
    assert result["env"]["JAX_COMPILATION_CACHE_DIR"] == directory
    assert float(result["env"]["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]) == 0.3
    assert os.path.isdir(directory)


def test_xdg_cache_home_is_followed_unless_it_is_relative(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    result = run(CONFIGURE, XDG_CACHE_HOME=str(elsewhere))
    assert result["cache_directory"] == str(elsewhere / "mazejax" / "xla")
    result = run(CONFIGURE, XDG_CACHE_HOME="relative")
    assert result["cache_directory"] == str(tmp_path / ".cache" / "mazejax" / "xla")


def test_the_users_cache_folder_and_threshold_win(run, tmp_path):
    chosen = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "7",
    }
    result = run(CONFIGURE, **chosen)
    assert chosen.items() <= result["env"].items()
    assert result["cache_source"] == "user"
    assert result["cache_directory"] == chosen["JAX_COMPILATION_CACHE_DIR"]


@pytest.mark.parametrize(
    "switch", [{"MAZEJAX_COMPILATION_CACHE": "off"}, {"JAX_ENABLE_COMPILATION_CACHE": "False"}]
)
def test_the_cache_can_be_switched_off(run, tmp_path, switch):
    result = run(CONFIGURE, **switch)
    assert result["cache_source"] == "off" and result["cache_directory"] is None
    assert "JAX_COMPILATION_CACHE_DIR" not in result["env"]
    assert not (tmp_path / ".cache").exists()


def test_without_the_cache_asked_for_no_folder_is_touched(run, tmp_path):
    result = run(CONFIGURE.replace("configure()", "configure(cache=False)"))
    assert result["cache_source"] == "none" and result["XLA_FLAGS"] == OURS
    assert not (tmp_path / ".cache").exists()


def test_a_folder_that_cannot_be_written_is_a_problem_and_no_cache(run, tmp_path):
    (tmp_path / "file").touch()
    result = run(CONFIGURE, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert result["cache_source"] == "none"
    assert "cannot write" in result["problems"][0] and "Not a directory" in result["problems"][0]


def test_the_cache_works_when_jax_has_already_compiled_something(run, tmp_path):
    code = """
import os
import jax
from mazejax import setup
setup.configure(cache=False)
jax.jit(lambda x: x + 1)(1.0)
directory = setup.configure().cache_directory
jax.jit(lambda x: x * 3)(1.0)
result = os.listdir(directory)
"""
    files = run(code, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert any(name.startswith("jit_") for name in files)


def test_a_cache_set_through_jax_config_is_the_users(run, tmp_path):
    code = f"import jax\njax.config.update('jax_compilation_cache_dir', {str(tmp_path)!r})\n"
    result = run(code + CONFIGURE)
    assert result["cache_source"] == "user" and result["cache_directory"] == str(tmp_path)
    assert "JAX_COMPILATION_CACHE_DIR" not in result["env"]
