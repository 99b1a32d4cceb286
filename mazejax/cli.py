"""The `mazejax` command: a verb, then `key=value` overrides that Hydra composes.

Every error of the user is one line that starts with the key, and exit code 2; other
errors of ours exit with 1, a signal with 128 and its number. Heavy imports wait until
a verb needs them.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from mazejax import setup
from mazejax.errors import ConfigError, MazejaxError, did_you_mean

USAGE = """\
usage: mazejax VERB [key=value ...]

  train      train a policy        mazejax train env=CartPole-v1 algorithm=ppo total_steps=300_000
                                   mazejax train env=Pendulum-v1 wrappers.RewardScaling.scale=0.1
                                   mazejax train resume=runs/NAME
  evaluate   evaluate a run        mazejax evaluate runs/NAME episodes=100 seed=1
  events     what happened, as TSV mazejax events runs/NAME episodes=50 seed=1
  hparams    runs in TensorBoard   mazejax hparams runs
  demo       train CartPole until it is solved, and show what came of it
  plan       sizes and memory      mazejax plan env=CartPole-v1 algorithm.num_envs=1024
  check      check an environment  mazejax check CartPole-v1, mazejax check my_package:make_env
  envs       table of environments
  doctor     versions, devices, flags, cache, and what to mend

Keys of train and plan: env, env_parameters.NAME, wrappers (a name), wrappers.NAME.FIELD,
algorithm (a name), algorithm.FIELD, run.FIELD, total_steps, seed, directory, resume.
`mazejax train --help` lists them with their values; `-m` before keys with several values
(seed=0,1,2) runs all combinations.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    setup.configure()
    try:
        with _current_folder_importable():
            return _dispatch(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except MazejaxError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # of `mazejax envs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        from mazejax import __version__

        print(__version__)
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise ConfigError(f"{verb}: unknown verb; {did_you_mean(verb, VERBS)}")
    return VERBS[verb](rest)


# --- verbs --------------------------------------------------------------------------


def _train(overrides: list[str]) -> int:
    """Compose the configuration and train, once or for every combination of a multirun."""
    from mazejax.conf.compose import run_with_config

    return max(run_with_config(overrides, _train_once), default=0)


def _train_once(config: dict[str, Any]) -> int:
    from mazejax.runners.run_context import RunContext

    if config["resume"] is not None:
        changes = {"total_steps": config["total_steps"]} if config["total_steps"] else {}
        run = RunContext.load(config["resume"], **changes)
    else:
        run = _context(config)
    print(run.plan(), flush=True)
    run.train()
    if run.interrupted:
        print(f"interrupted; go on with: mazejax train resume={run.directory}")
        return 128 + run.interrupted
    _show_directory(run)
    return 0


def _plan(overrides: list[str]) -> int:
    from mazejax.conf.compose import run_with_config

    def show(config: dict[str, Any]) -> int:
        print(_context(config).plan())
        return 0

    return max(run_with_config(overrides, show), default=0)


def _evaluate(arguments: list[str]) -> int:
    from mazejax.runners.console import ConsoleWriter
    from mazejax.runners.run_context import RunContext

    if not arguments or "=" in arguments[0]:
        raise ConfigError("evaluate: which run? for instance: mazejax evaluate runs/NAME")
    options = _options("evaluate", arguments[1:], {"episodes": 100, "seed": 1})
    run = RunContext.load(arguments[0])
    print(run.policy)
    evaluation = run.evaluate(episodes=options["episodes"], seed=options["seed"])
    print(evaluation)
    table = ConsoleWriter()
    events = evaluation.report()
    table.write(run.algorithm.total_steps, events.scalars, events.distributions)
    table.show()
    return 0


def _events(arguments: list[str]) -> int:
    """Play episodes of a run's policy and write all that happens in them."""
    from mazejax.runners.event_files import FOLDER
    from mazejax.runners.run_context import RunContext

    if not arguments or "=" in arguments[0]:
        raise ConfigError("events: of which run? for instance: mazejax events runs/NAME")
    options = _options("events", arguments[1:], {"episodes": 50, "seed": 1})
    run = RunContext.load(arguments[0])
    print(run.record_events(options["episodes"], options["seed"]))
    print(f"\nwritten to {run.directory / FOLDER}")
    return 0


def _hparams(arguments: list[str]) -> int:
    """Write the table of runs that TensorBoard shows as HPARAMS."""
    from mazejax.runners.hparams import write_hparams

    if len(arguments) != 1:
        raise ConfigError("hparams: of which runs? for instance: mazejax hparams runs")
    rows = write_hparams(arguments[0])
    print(f"{len(rows)} runs; look at them with: tensorboard --logdir {arguments[0]}")
    return 0


def _demo(arguments: list[str]) -> int:
    """Train CartPole until 100 evaluation episodes average 475, and show the results."""
    from mazejax.runners.run_context import RunContext

    options: dict[str, Any] = _options("demo", arguments, {"seed": 0, "total_steps": 500_000})
    run = RunContext("ppo", "CartPole-v1", target_return=490.0, num_evaluations=40, **options)
    print(run.plan(), flush=True)
    run.train()
    if run.interrupted:
        return 128 + run.interrupted
    result = run.evaluate(episodes=100)
    print(f"\n100 fresh episodes of the best policy: {result}")
    run.render()
    run.render(run.directory / "rollout.html")
    run.plot().savefig(run.directory / "learning_curve.png", dpi=120)
    _show_directory(run)
    return 0 if result.mean_return >= 475.0 else 1


def _check(arguments: list[str]) -> int:
    import mazejax
    from mazejax.envs.check import check_env

    if len(arguments) != 1:
        raise ConfigError("check: which environment? for instance: mazejax check CartPole-v1")
    name = arguments[0]
    env = _own_env(name) if ":" in name else mazejax.make(name)
    report = check_env(env, strict=False)
    print(report)
    return 1 if report.errors else 0


def _envs(arguments: list[str]) -> int:
    from mazejax.doctor import environment_table

    _options("envs", arguments, {})
    environment_table()
    return 0


def _doctor(arguments: list[str]) -> int:
    from mazejax.doctor import examine

    _options("doctor", arguments, {})
    return examine()


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "events": _events,
    "hparams": _hparams,
    "demo": _demo,
    "plan": _plan,
    "check": _check,
    "envs": _envs,
    "doctor": _doctor,
}


# --- helpers ------------------------------------------------------------------------


def _context(config: dict[str, Any]) -> Any:
    """The run of a composed configuration; errors start with the key as the user writes it."""
    from mazejax import registry
    from mazejax.conf.nodes import dotted
    from mazejax.runners.run_context import RunContext

    if config["env"] is None:
        raise ConfigError("env: missing; for instance env=CartPole-v1 (`mazejax envs` lists all)")
    with _located("env"):
        make = registry.environments.get(config["env"])
    with _located("env_parameters"):
        make(**config["env_parameters"])
    fields = {**config["algorithm"], **config["run"]}
    if config["total_steps"] is not None:
        fields["total_steps"] = config["total_steps"]
    try:
        return RunContext(
            config["algorithm_name"],
            config["env"],
            seed=config["seed"],
            directory=config["directory"],
            env_parameters=config["env_parameters"],
            wrappers=config["wrappers"],
            **fields,
        )
    except ConfigError as error:
        raise ConfigError(dotted(str(error), config["algorithm_name"])) from error


@contextlib.contextmanager
def _located(key: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _options(verb: str, arguments: list[str], defaults: dict[str, int]) -> dict[str, int]:
    """Whole-number `key=value` options of a small verb."""
    options = dict(defaults)
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in defaults or not separator:
            raise ConfigError(f"{key}: unknown key of {verb}; {did_you_mean(key, defaults)}")
        try:
            options[key] = int(value)
        except ValueError:
            raise ConfigError(f"{key}: expected a whole number, got {value!r}") from None
    return options


def _own_env(name: str) -> Any:
    """The env of `package.module:NAME`: of a function there, else of what it registers."""
    import importlib

    import mazejax

    module, _, attribute = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(f"{name}: cannot be imported ({error})") from error
    return mazejax.make(name) if make is None else make()


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Modules of the current folder are found, as with `python -m`, but behind installed ones."""
    if "" in sys.path:
        yield
        return
    sys.path.append("")
    try:
        yield
    finally:
        sys.path.remove("")


def _show_directory(run: Any) -> None:
    """Say where everything is."""
    shown = {
        "config": "config.json",
        "metrics": "metrics.jsonl",
        "tensorboard": "tensorboard",
        "checkpoints": "checkpoints",
        "best policy": "best_policy.safetensors",
        "normalizing": "observation_statistics.npz",
        "rollout": "rollout.gif",
        "in a browser": "rollout.html",
        "curve": "learning_curve.png",
    }
    print(f"\nrun directory  {run.directory}")
    for what, name in shown.items():
        if (run.directory / name).exists():
            print(f"  {what:<12} {run.directory / name}")
