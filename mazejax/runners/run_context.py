"""`RunContext`: one training run, from its names to its files.

    run = mazejax.train("ppo", "CartPole-v1", total_steps=500_000, seed=0)
    run = RunContext("ppo", "CartPole-v1", total_steps=500_000, seed=0); run.train()

are the same thing. A run directory holds all that a run is: `RunContext.load(directory)`
continues it bit for bit, or evaluates what it learned.
"""

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from mazejax import files, random, registry, setup
from mazejax.algos.base import Algorithm, TrainState
from mazejax.deployment.policy import Policy
from mazejax.envs.base import Env
from mazejax.errors import ConfigError, FileError, MazejaxError, did_you_mean
from mazejax.runners import checkpoint, run_statistics
from mazejax.runners import evaluation as evaluating
from mazejax.runners import plan as planning
from mazejax.runners import rollout as rollouts
from mazejax.runners.config import config_fields, from_config, to_config
from mazejax.runners.console import ConsoleWriter
from mazejax.runners.event_playing import trained_policy
from mazejax.runners.event_recording import RecordedEvents, record_events
from mazejax.runners.program import Program, compile_program
from mazejax.runners.progress import Progress, choose_progress
from mazejax.runners.settings import RunSettings
from mazejax.runners.signals import StopRequest
from mazejax.runners.training import Best, TrainingLoop
from mazejax.runners.writers import (
    METRICS_FILE,
    JSONLinesWriter,
    MetricsWriter,
    TensorBoardWriter,
    read_metrics,
)
from mazejax.wrappers import compose

CONFIG_FILE = "config.json"
POLICY_FILE = "best_policy.safetensors"

_FRESH_EPISODES = 2**32  # above every seed of a run, and runs choose their policy by their own


class Curve(NamedTuple):
    """One metric over a run."""

    steps: np.ndarray
    """Env steps at which it was written."""
    values: np.ndarray


class RunContext:
    """A run: its algorithm, its state, its directory and what can be done with them.

    `algorithm` and `env` are registered names or objects, `wrappers` what the env is wrapped
    in, as `mazejax.wrappers.wrap` takes it, `writers` take metrics beside those of the run and
    are closed by it; further keywords are fields of the algorithm (`learning_rate=1e-3`) or of
    `RunSettings` (`target_return=475`). Nothing is compiled or written before everything is
    checked.
    """

    def __init__(
        self,
        algorithm: str | Algorithm,
        env: str | Env | None = None,
        *,
        seed: int = 0,
        directory: str | os.PathLike | None = None,
        env_parameters: dict[str, Any] | None = None,
        wrappers: compose.Config | None = None,
        writers: Sequence[MetricsWriter] = (),
        **fields: Any,
    ) -> None:
        setup.configure()
        self._own_writers = tuple(writers)
        known = {field.name for field in config_fields(RunSettings)}
        own = {name: fields.pop(name) for name in known & fields.keys()}
        self.settings: RunSettings = from_config(RunSettings, own)
        self.seed = _check_seed(seed)
        self._env_name, self._env_parameters = _env_names(algorithm, env, env_parameters)
        if isinstance(algorithm, Algorithm) and wrappers:
            raise ConfigError("wrappers: the algorithm has its env already; wrap that one")
        made = _make_env(algorithm, env, self._env_parameters)
        self._bare_env = repr(made)
        wrapped, self._wrappers = compose.as_configured(made, wrappers)
        self.algorithm = _build_algorithm(algorithm, wrapped, fields, known)
        self.directory = Path(directory) if directory is not None else self._default_directory()
        self.interrupted: int | None = None
        """Number of the signal that ended `train` early, if one did."""
        self.state: TrainState | None = None
        self._best = Best()

    # --- training -------------------------------------------------------------------

    def train(self) -> Self:
        """Train to the end, from the latest checkpoint if there is one; returns the run.

        Ctrl-C or SIGTERM ends the current chunk, saves and returns with `interrupted`
        set; another `train()`, here or after `load`, goes on bit for bit.
        """
        self._claim_directory()
        algorithm = self._settle()
        run_statistics.keep(algorithm, self.directory)
        state = self._restore() if checkpoint.steps(self.directory) else None
        first = 0 if state is None else int(state.updates) * algorithm.steps_per_update
        total = algorithm.num_updates * algorithm.steps_per_update
        progress = choose_progress(self.settings.progress, total, first)
        console = self._console()
        writers = self._writers(first, console)
        with StopRequest() as stop:
            try:
                program = self._compile(progress)
                if state is None:
                    state = program.start(random.key(self.seed))
                else:
                    state = program.place(state)
                loop = TrainingLoop(
                    algorithm=algorithm,
                    program=program,
                    settings=self.settings,
                    seed=self.seed,
                    directory=self.directory,
                    writers=writers,
                    progress=progress,
                    best=self._best,
                    on_best=self._save_best,
                    totals=self._totals(),
                    console=console,
                )
                self.state = loop.run(state, stop)
            finally:
                progress.close()
                for writer in writers:
                    writer.close()
        self.interrupted = stop.signal
        return self

    @classmethod
    def load(cls, directory: str | os.PathLike, env: Env | None = None, **changes: Any) -> Self:
        """The run of a directory; `changes` are fields such as `total_steps`.

        A run that was made with an env object needs that `env` again. Raises FileError
        for a directory that is missing, damaged or no run.
        """
        directory = Path(directory)
        config = read_run_config(directory)
        name = config["env"]["name"]
        if name is not None and env is not None:
            raise ConfigError(
                f"{directory}: was trained on {name}, which is made by name; omit env"
            )
        if name is None and env is None:
            raise ConfigError(
                f"{directory}: was trained on an env object, {config['env']['repr']}; "
                f"pass the same one as env=..."
            )
        algorithm = dict(config["algorithm"])
        run = cls(
            algorithm.pop("name"),
            env if name is None else name,
            seed=config["seed"],
            directory=directory,
            env_parameters=config["env"]["parameters"],
            wrappers=config["env"]["wrappers"],
            **{**algorithm, **config["run"], **changes},
        )
        if (directory / run_statistics.FILE).exists():
            run._settle()
        run._load_best()
        return run

    # --- what it learned ------------------------------------------------------------

    @property
    def env(self) -> Env:
        """The env in its wrappers, as it is trained, evaluated and deployed."""
        return self._settle().env

    @property
    def policy(self) -> Policy:
        """The best policy by evaluation; before any evaluation the latest one."""
        return Policy(self.algorithm.actor_critics, self._policy_variables())

    @property
    def metrics(self) -> dict[str, Curve]:
        """Every metric of the run, by name, over env steps."""
        table = read_metrics(self.directory / METRICS_FILE)
        return {name: Curve(*columns) for name, columns in table.items()}

    def evaluate(
        self, episodes: int = 100, seed: int = 1, deterministic: bool = True
    ) -> evaluating.Evaluation:
        """Returns of fresh episodes of the best policy.

        No seed gives the episodes by which the policy was chosen, so the result is not
        flattered.
        """
        return evaluating.evaluate(
            self._settle(),
            self._policy_variables(),
            _FRESH_EPISODES + seed,
            episodes,
            self.settings.max_episode_steps,
            deterministic,
        )

    def record_events(
        self, episodes: int = 50, seed: int = 1, deterministic: bool = True
    ) -> RecordedEvents:
        """Every event of fresh episodes of the best policy, with its time and its episode.

        The episodes are those of `evaluate` with as many and the same seed; they are written
        as TSV into `event_logs` of the run's directory too.
        """
        algorithm = self._settle()
        return record_events(
            algorithm.env,
            trained_policy(algorithm, self._policy_variables(), deterministic),
            random.stream(random.key(_FRESH_EPISODES + seed), "evaluation"),
            episodes,
            self.settings.max_episode_steps,
            self.directory,
        )

    def render(self, path: str | os.PathLike | None = None, seed: int = 0) -> Path:
        """Write one episode of the best policy as `.gif` or `.html`; returns the path."""
        path = self.directory / "rollout.gif" if path is None else Path(path)
        return rollouts.render_episode(self._settle(), self._policy_variables(), path, seed)

    def plot(self, name: str = "train/episode_return") -> Any:
        """Matplotlib figure of a metric over env steps, with evaluations beside returns."""
        from mazejax.rendering.plots import plot_curves

        curves = self.metrics
        if name not in curves:
            raise ConfigError(f"plot: no metric {name!r}; {did_you_mean(name, curves)}")
        shown = [name] + ["eval/return_mean"] * (name == "train/episode_return")
        series = {key: tuple(curves[key]) for key in shown if key in curves}
        return plot_curves(series, xlabel="env steps", ylabel=name.split("/")[-1].replace("_", " "))

    def plan(self) -> planning.Plan:
        """Batch arithmetic, memory and work of the run; nothing of it is compiled."""
        return planning.plan(self._settle())

    def config(self) -> dict[str, Any]:
        """All of the run's configuration as plain data, as its directory holds it."""
        return {
            "mazejax": version("mazejax"),
            "env": {
                "name": self._env_name,
                "parameters": to_config(self._env_parameters),
                "wrappers": self._wrappers,
                "repr": self._bare_env,
            },
            "algorithm": {
                "name": registry.algorithms.name_in_files(type(self.algorithm)),
                **to_config(self.algorithm),
            },
            "run": to_config(self.settings),
            "seed": self.seed,
        }

    def __repr__(self) -> str:
        return (
            f"RunContext({type(self.algorithm).__name__} on {self.algorithm.env}, "
            f"seed={self.seed}, directory={str(self.directory)!r})"
        )

    # --- files ----------------------------------------------------------------------

    def _default_directory(self) -> Path:
        """A new directory below `runs`, named for what is trained and when."""
        env = (self._env_name or self.algorithm.env.name).rpartition(":")[2].replace("/", "-")
        name = f"{env}-{type(self.algorithm).__name__.lower()}-s{self.seed}"
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return _unused(Path("runs") / files.safe_name(f"{name}-{stamp}"))

    def _claim_directory(self) -> None:
        """Create the directory with its config, or check that it is this run's."""
        path, config = self.directory / CONFIG_FILE, self.config()
        if path.exists():
            self._check_same_run(read_run_config(self.directory))
        elif self.directory.exists() and any(self.directory.iterdir()):
            raise FileError(
                f"{self.directory}: is not empty and holds no run; choose another directory"
            )
        files.make_folder(self.directory)
        files.write_json(path, config)
        checkpoint.sweep_leftovers(self.directory)

    def _check_same_run(self, stored: dict[str, Any]) -> None:
        """Raise FileError if the stored run learns something else; its length may differ."""
        for part in ("seed", "env", "algorithm"):
            mine, theirs = (config[part] for config in (self.config(), stored))
            mine, theirs = (c if isinstance(c, dict) else {part: c} for c in (mine, theirs))
            for name in sorted((mine.keys() | theirs.keys()) - {"total_steps"}):
                if mine.get(name) != theirs.get(name):
                    raise FileError(
                        f"{self.directory}: holds a run with another {name}: {theirs.get(name)!r} "
                        f"and not {mine.get(name)!r}; choose another directory"
                    )

    def _settle(self) -> Algorithm:
        """The algorithm, on an env with the statistics of observations that it needs."""
        self.algorithm = run_statistics.settled(self.algorithm, self.directory, self.seed)
        return self.algorithm

    def _compile(self, progress: Progress) -> Program:
        progress.message("compiling ...")
        begin = time.perf_counter()
        program = compile_program(self.algorithm)
        progress.message(f"compiled in {time.perf_counter() - begin:.1f} s")
        return program

    def _restore(self) -> TrainState:
        template = jax.eval_shape(self._settle().init, random.key(self.seed))
        state: TrainState = checkpoint.restore(self.directory, template)
        self._load_best()
        return state

    def _totals(self) -> dict[str, float]:
        """What statistics of events had added up to at the latest checkpoint."""
        steps = checkpoint.steps(self.directory)
        if not steps:
            return {}
        metadata = checkpoint.read_manifest(self.directory, max(steps))["metadata"]
        return dict(metadata.get("totals", {}))

    def _console(self) -> ConsoleWriter | None:
        shown = {self.settings.progress, self.settings.print_statistics}
        return ConsoleWriter() if not shown & {"none", "never"} else None

    def _writers(self, first_step: int, console: ConsoleWriter | None) -> list[MetricsWriter]:
        writers: list[MetricsWriter] = [
            JSONLinesWriter(self.directory / METRICS_FILE, resume_step=first_step)
        ]
        if self.settings.tensorboard:
            writers.append(TensorBoardWriter(self.directory / "tensorboard", first_step))
        return [*writers, *self._own_writers, *([] if console is None else [console])]

    def _save_best(self, best: Best, update: int) -> None:
        metadata = {
            "mean_return": best.mean_return,
            "steps": update * self.algorithm.steps_per_update,
        }
        checkpoint.save_arrays(self.directory / POLICY_FILE, best.variables, metadata)

    def _load_best(self) -> None:
        path = self.directory / POLICY_FILE
        if not path.exists():
            return
        template = jax.eval_shape(self._settle().init, random.key(0)).variables
        variables, metadata = checkpoint.load_arrays(path, template)
        self._best = Best(metadata["mean_return"], variables)

    def _policy_variables(self) -> Any:
        if self._best.variables is not None:
            return self._best.variables
        if self.state is None and checkpoint.steps(self.directory):
            self.state = self._restore()
        if self.state is None:
            raise MazejaxError(f"{self.directory}: nothing is trained yet; call train() first")
        return self.state.variables


def train(algorithm: str | Algorithm, env: str | Env | None = None, **options: Any) -> RunContext:
    """The trained run: `RunContext(algorithm, env, **options).train()`."""
    return RunContext(algorithm, env, **options).train()


def read_run_config(directory: Path) -> dict[str, Any]:
    """Configuration of a run directory; FileError if it is none."""
    if not directory.is_dir():
        raise FileError(f"{directory}: no such run directory")
    path = directory / CONFIG_FILE
    if not path.exists():
        raise FileError(f"{directory}: is not a run directory, it has no {CONFIG_FILE}")
    config = files.read_json(path)
    wanted = {"mazejax", "env", "algorithm", "run", "seed"}
    if not isinstance(config, dict) or not wanted <= config.keys():
        raise FileError(f"{path}: is not a configuration of a mazejax run")
    config["env"] = {"wrappers": [], **config["env"]}  # runs of before there were wrappers
    return config


def _env_names(
    algorithm: str | Algorithm, env: str | Env | None, parameters: dict[str, Any] | None
) -> tuple[str | None, dict[str, Any]]:
    if isinstance(algorithm, Algorithm) and env is not None:
        raise ConfigError("env: the algorithm has its env already; give one of the two")
    if isinstance(algorithm, str) and env is None:
        raise ConfigError(f"env: missing; for instance RunContext({algorithm!r}, 'CartPole-v1')")
    if not isinstance(env, str) and parameters:
        raise ConfigError("env_parameters: only for an env given by name")
    return (env if isinstance(env, str) else None), dict(parameters or {})


def _make_env(algorithm: str | Algorithm, env: Any, parameters: dict[str, Any]) -> Env:
    if isinstance(algorithm, Algorithm):
        return algorithm.env
    made: Env = registry.environments.get(env)(**parameters) if isinstance(env, str) else env
    return made


def _build_algorithm(
    algorithm: str | Algorithm, env: Env, fields: dict[str, Any], settings: set[str]
) -> Algorithm:
    if isinstance(algorithm, Algorithm):
        return algorithm.replace(**fields) if fields else algorithm
    cls = registry.algorithms.get(algorithm)
    known = {field.name for field in config_fields(cls)}
    for name in fields.keys() - known:
        raise ConfigError(f"{name}: unknown key; {did_you_mean(name, known | settings)}")
    plain = {name: to_config(value) for name, value in fields.items()}
    return from_config(cls, plain, env=env)


def _check_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise ConfigError(f"seed: must be a whole number from 0 to 2^31 - 1, got {seed!r}")
    return int(seed)


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
