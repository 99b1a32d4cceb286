"""`mazejax doctor` and `mazejax envs`: what this machine has, and what there is to train on."""

import importlib.metadata
import platform
import time

from mazejax import registry, setup

_PACKAGES = (
    "mazejax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "gymnax", "gymnasium",
    "numpy", "hydra-core", "tensorboardX",
)  # fmt: skip


def examine() -> int:
    """Print versions, devices, flags and cache, run one step; returns 1 if anything is wrong."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [("python", platform.python_version()), *map(_package, _PACKAGES)]
    rows += _settings()
    problems = list(setup.status().problems)
    rows += _devices(problems)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for problem in problems:
        console.print(f"[bold red]wrong[/]  {problem}")
    console.print("[green]all is well[/]" if not problems else f"{len(problems)} to mend")
    return 1 if problems else 0


def environment_table() -> None:
    """Print every registered environment with its spaces and where it comes from."""
    from rich.console import Console
    from rich.table import Table

    table = Table("environment", "actor", "observation", "action", box=None, pad_edge=False)
    names = registry.environments.names()
    table.columns[0].min_width = max(map(len, names))
    for name in names:
        if "/" in name:
            table.add_row(name, "", "", "")
            continue
        env = registry.make(name)
        actions = env.action_spaces
        for step_key, observation in env.observation_spaces.items():
            is_flat = len(actions) == 1 and env.agent_counts[step_key] == 1
            actor = "" if is_flat else f"{env.agent_counts[step_key]} x {step_key}"
            table.add_row(name, actor, observation.summary, actions[step_key].summary)
            name = ""
    Console(highlight=False, soft_wrap=True).print(table)


def _package(name: str) -> tuple[str, str]:
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return name, "not installed"


def _settings() -> list[tuple[str, str]]:
    status = setup.status()
    return [
        ("XLA flags", " ".join((*status.flags_set, *status.flags_of_user)) or "none"),
        ("program cache", f"{status.cache_directory or 'none'} ({status.cache_source})"),
    ]


def _devices(problems: list[str]) -> list[tuple[str, str]]:
    """Devices and the time of a first compiled step; what fails is added to the problems."""
    import jax

    try:
        devices = ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices())
        begin = time.perf_counter()
        env = registry.make("CartPole-v1")
        step = jax.jit(env.step)
        _, state = jax.jit(env.reset)(jax.random.key(0))
        jax.block_until_ready(
            step(jax.random.key(1), state, env.action_space.sample(jax.random.key(2)))
        )
    except RuntimeError as error:
        problems.append(f"jax does not run: {str(error).splitlines()[0]}")
        return []
    seconds = time.perf_counter() - begin
    x64 = "on, which mazejax is not tested with" if jax.config.read("jax_enable_x64") else "off"
    return [("devices", devices), ("x64", x64), ("first step", f"{seconds:.2f} s with compiling")]
