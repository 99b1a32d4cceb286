"""Process set-up: the XLA flags that tested jaxlib versions need, and the compilation cache.

XLA reads its flags once, when the first backend starts, and aborts on a flag that it
does not know: so flags are merged into `XLA_FLAGS` early, and only for tested versions.
Standard library only, no jax: this runs at `import mazejax` and in environment workers.
"""

import dataclasses
import importlib.metadata
import os
import re
import sys
import warnings

SCHEDULER_FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"
"""With XLA's default, true, vmapped training loops on few CPU cores can hang for ever."""

TESTED_JAXLIB = ((0, 10, 2), (0, 12))
"""From (included) and to (excluded): the jaxlib versions that are known to accept our flags."""

CACHE_SWITCH = "MAZEJAX_COMPILATION_CACHE"
"""Environment variable: `off` leaves jax without our compilation cache."""

MIN_COMPILE_SECONDS = 0.3
"""Programs that compile faster are not cached: reading them back takes about 0.1 s."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What holds in this process, who decided it, and what should be mended."""

    jaxlib: str | None
    """Installed version, None without jaxlib."""
    flags_set: tuple[str, ...]
    """XLA flags that mazejax added."""
    flags_of_user: tuple[str, ...]
    """XLA flags that were there before; they win."""
    too_late: bool
    """Whether jax had started a backend before our flag could be added."""
    cache_directory: str | None
    """Where compiled programs are kept between processes, None for nowhere."""
    cache_source: str
    """`mazejax`, `user`, `off` (switched off by a variable) or `none` (not asked for)."""
    problems: tuple[str, ...]
    """One sentence for each thing that is wrong, with its remedy."""


@dataclasses.dataclass
class _Done:
    # What this process did: the environment alone cannot tell our settings from the user's.
    flags: tuple[str, ...] = ()
    cache_directory: str | None = None
    cache_problem: str | None = None
    warned: bool = False


_done = _Done()


def configure(cache: bool = True) -> Setup:
    """What holds after XLA flags and compilation cache are set, as far as the user has not.

    Safe to call again at any time. `import mazejax` calls it without the cache, because a
    library should not write into a home folder by being imported; the command line,
    the runners, the tests and the benchmarks call it with the cache. Warns once when jax
    has started a backend without the flag.
    """
    _add_scheduler_flag()
    if cache:
        _set_compilation_cache()
    setup = status()
    if setup.too_late and not _done.warned:
        _done.warned = True
        warnings.warn(setup.problems[0], RuntimeWarning, stacklevel=2)
    return setup


def status() -> Setup:
    """What holds now; changes nothing."""
    flags = _flags_in_force()
    jaxlib = _jaxlib_version()
    too_late = _wants_flag(jaxlib, flags) and _jax_has_started()
    directory, source = _cache_in_force()
    return Setup(
        jaxlib=jaxlib,
        flags_set=tuple(flag for flag in flags if flag in _done.flags),
        flags_of_user=tuple(flag for flag in flags if flag not in _done.flags),
        too_late=too_late,
        cache_directory=directory,
        cache_source=source,
        problems=tuple(_problems(jaxlib, flags, too_late)),
    )


def default_cache_directory() -> str:
    """Folder for compiled programs: `mazejax/xla` in the user's cache folder (XDG)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # unset, or relative: the XDG specification ignores those
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "mazejax", "xla")


# --- XLA flags ----------------------------------------------------------------------


def _add_scheduler_flag() -> None:
    flags = _flags_in_force()
    if not _wants_flag(_jaxlib_version(), flags) or _jax_has_started() or _flags_are_in_a_file():
        return
    ours = f"{SCHEDULER_FLAG}=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '').rstrip()} {ours}".lstrip()
    _done.flags = (ours,)


def _wants_flag(jaxlib: str | None, flags: tuple[str, ...]) -> bool:
    return _is_tested(jaxlib) and _scheduler_setting(flags) is None


def _scheduler_setting(flags: tuple[str, ...]) -> str | None:
    settings = [flag for flag in flags if flag.split("=")[0] == SCHEDULER_FLAG]
    return settings[-1] if settings else None  # XLA takes the last of several


def _flags_in_force() -> tuple[str, ...]:
    text = os.environ.get("XLA_FLAGS", "")
    if not _flags_are_in_a_file():
        return tuple(text.split())
    try:
        with open(text.strip(), encoding="utf-8") as file:
            return tuple(file.read().split())
    except OSError:
        return ()


def _flags_are_in_a_file() -> bool:
    # XLA takes a value that does not begin with a dash for the path of a file with flags.
    text = os.environ.get("XLA_FLAGS", "").strip()
    return bool(text) and not text.startswith("-")


def _jaxlib_version() -> str | None:
    try:
        return importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_tested(jaxlib: str | None) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", jaxlib or "")[:3])
    return TESTED_JAXLIB[0] <= numbers < TESTED_JAXLIB[1]


def _jax_has_started() -> bool:
    # jax has no public question for this, and asking for devices would start a backend.
    bridge = sys.modules.get("jax._src.xla_bridge")
    ask = getattr(bridge, "backends_are_initialized", None)
    return bool(ask and ask())


# --- compilation cache --------------------------------------------------------------


def _set_compilation_cache() -> None:
    if _cache_in_force()[1] in ("mazejax", "off"):
        return
    if _cache_in_force()[1] == "none":
        directory = default_cache_directory()
        _done.cache_problem = _why_not_writable(directory)
        if _done.cache_problem:
            return
        _done.cache_directory = directory
        _set_jax_option("compilation_cache_dir", directory, default=None)
    _set_jax_option("persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS, default=1.0)


def _cache_in_force() -> tuple[str | None, str]:
    """Folder and who chose it; a setting made through `jax.config` counts like a variable."""
    if _says_no(os.environ.get(CACHE_SWITCH)) or _says_no(_jax_option("enable_compilation_cache")):
        return None, "off"
    directory = _jax_option("compilation_cache_dir")
    if not directory:
        return None, "none"
    return str(directory), "mazejax" if directory == _done.cache_directory else "user"


def _jax_option(name: str) -> object:
    # jax reads its variables when it is imported; from then on only jax.config counts.
    config = getattr(sys.modules.get("jax"), "config", None)
    if config is not None:
        return getattr(config, f"jax_{name}", None)
    return os.environ.get(f"JAX_{name.upper()}")


def _says_no(value: object) -> bool:
    return str(value).lower() in ("false", "off", "no", "n", "f", "0")  # as jax reads variables


def _set_jax_option(name: str, value: object, default: object) -> None:
    variable = f"JAX_{name.upper()}"
    if variable in os.environ:
        return
    config = getattr(sys.modules.get("jax"), "config", None)
    if config is not None:
        if getattr(config, f"jax_{name}", default) != default:
            return
        config.update(f"jax_{name}", value)
    os.environ[variable] = str(value)  # for a jax that is not imported yet, and for children


def _why_not_writable(directory: str) -> str | None:
    try:
        os.makedirs(directory, exist_ok=True)
        if os.access(directory, os.W_OK):
            return None
        reason = "permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    return (
        f"compilation cache: cannot write {directory} ({reason}); set JAX_COMPILATION_CACHE_DIR "
        f"to a folder that you may write, or {CACHE_SWITCH}=off"
    )


# --- sentences ----------------------------------------------------------------------


def _problems(jaxlib: str | None, flags: tuple[str, ...], too_late: bool) -> list[str]:
    problems = []
    remedy = f"set XLA_FLAGS={SCHEDULER_FLAG}=false before Python starts"
    if too_late:
        problems.append(
            "jax had started before mazejax could set its XLA flag, and vmapped training may hang "
            f"on the CPU: import mazejax before the first jax computation, or {remedy}"
        )
    elif _wants_flag(jaxlib, flags) and _flags_are_in_a_file():
        problems.append(
            f"XLA_FLAGS names the file {os.environ['XLA_FLAGS'].strip()}: add the line "
            f"{SCHEDULER_FLAG}=false to it, or vmapped training may hang on the CPU"
        )
    if jaxlib is None:
        problems.append("jaxlib is not installed: pip install 'jax>=0.10.2'")
    elif not _is_tested(jaxlib):
        problems.append(
            f"jaxlib {jaxlib} is not among the tested versions, so its XLA flags are left alone: "
            f"if training hangs, {remedy}"
        )
    setting = _scheduler_setting(flags)
    if setting is not None and setting != f"{SCHEDULER_FLAG}=false":
        problems.append(f"XLA_FLAGS has {setting}: vmapped training may hang on the CPU; {remedy}")
    if _done.cache_problem:
        problems.append(_done.cache_problem)
    return problems
