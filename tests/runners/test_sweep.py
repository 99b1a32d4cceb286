"""Sweeps: exact returns in, a table with the best first out, and what they refuse."""

import csv
import subprocess
import sys

import numpy as np
import pytest

import mazejax
from mazejax.algos.es import ES, MLPPolicy
from mazejax.algos.ppo import PPO
from mazejax.envs.probe import ConstantReward, EndlessReward, WildReset
from mazejax.errors import ConfigError, FileError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.runners import sweep as sweeping
from mazejax.runners.grid import expand
from mazejax.runners.lanes import Lane
from mazejax.runners.statistics import bootstrap, interquartile_mean
from mazejax.runners.sweep import Sweep, sweep

SIZES = {
    "network": MLPActorCritic((4,)),
    "num_steps": 4,
    "num_epochs": 1,
    "num_minibatches": 1,
    "total_steps": 48,
}
# Episodes of four steps, of which the first earns `first_reward`: nothing can be learned.
KNOWN = PPO(WildReset(), num_envs=4, **SIZES)


def made(returns, curves=None, steps=None, unfinished=None, keys=("gamma",)):
    """A Sweep of these returns [C, S] without training."""
    returns = np.asarray(returns, np.float64)
    grid = [{key: 0.5 + i / 100 for key in keys} for i in range(len(returns))]
    curves = returns[:, :, None] if curves is None else np.asarray(curves, np.float64)
    rows = curves.shape[-1]
    steps = np.tile(np.arange(1, rows + 1) * 10, (len(returns), 1)) if steps is None else steps
    unfinished = np.zeros(returns.shape, int) if unfinished is None else np.asarray(unfinished)
    seeds = tuple(range(returns.shape[1]))
    configurations = tuple(expand(KNOWN, grid))
    return Sweep(configurations, seeds, returns, unfinished, np.asarray(steps), curves)


# --- trained ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known():
    """Two numbers of the env, which share a program, times two sizes, which do not."""
    grid = {"env.first_reward": [3.0, 7.0], "num_envs": [4, 2]}
    return sweep(KNOWN, grid, seeds=[5, 1, 2], eval_episodes=2, progress="none")


def test_every_configuration_earns_what_its_numbers_say(known):
    expected = [[3.0] * 3, [3.0] * 3, [7.0] * 3, [7.0] * 3]
    np.testing.assert_array_equal(known.returns, expected)
    assert known.seeds == (5, 1, 2)
    assert (known.unfinished == 0).all()


def test_curves_have_a_point_for_each_update_and_shorter_ones_end_in_nan(known):
    # 48 steps are 3 updates of 4 envs and 6 of 2; an episode ends in every one.
    assert known.steps.tolist() == [[16, 32, 48, 48, 48, 48], [8, 16, 24, 32, 40, 48]] * 2
    expected = np.broadcast_to(np.array([3.0, 3.0, 7.0, 7.0])[:, None, None], (4, 3, 6)).copy()
    expected[0::2, :, 3:] = np.nan
    np.testing.assert_array_equal(known.curves, expected)
    assert [row["training"] for row in known.table] == [7.0, 7.0, 3.0, 3.0]


def test_the_table_is_sorted_and_the_best_algorithm_can_be_trained_on(known):
    assert [row["env.first_reward"] for row in known.table] == [7.0, 7.0, 3.0, 3.0]
    assert known.best.values == {"env.first_reward": 7.0, "num_envs": 4}
    assert known.best_algorithm == KNOWN.replace(env=WildReset(first_reward=7.0))
    assert known.table[0] == {
        "env.first_reward": 7.0, "num_envs": 4, "seeds": 3, "iqm": 7.0, "low": 7.0, "high": 7.0,
        "mean": 7.0, "min": 7.0, "max": 7.0, "training": 7.0, "diverged": 0, "unfinished": 0,
    }  # fmt: skip


def test_runs_that_diverge_are_counted_and_do_not_spoil_the_others():
    found = sweep(KNOWN, {"learning_rate": [1e30, 1e-3]}, 2, eval_episodes=2, progress="none")
    assert np.isnan(found.returns[0]).all() and (found.returns[1] == 10.0).all()
    assert [row["diverged"] for row in found.table] == [0, 2]
    assert found.best.values == {"learning_rate": 1e-3}
    assert str(found).splitlines()[1].endswith("training  diverged")


def test_names_and_fields_are_those_of_train(capsys):
    found = sweep(
        "ppo", {"gamma": [0.9, 0.8]}, 2, env="CartPole-v1", env_parameters={"gravity": 7.0},
        network={"hidden": [4]}, num_envs=4, num_steps=8, total_steps=64, eval_episodes=2,
        max_episode_steps=5, progress="plain", memory=1,
    )  # fmt: skip
    env = mazejax.make("CartPole-v1", gravity=7.0)
    assert found.best_algorithm.env == env and found.best_algorithm.network.hidden == (4,)
    assert (found.returns == 5.0).all() and (found.unfinished == 2).all()
    assert "unfinished" in str(found).splitlines()[1]
    assert [row["unfinished"] for row in found.table] == [4, 4]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "program 1 of 1: compiling ..." and "4 chunks of 1, 0.0" in lines[1]


def test_es_is_swept_like_any_learner():
    algorithm = ES(
        ConstantReward(), population_size=4, max_steps=2, total_steps=24, network=MLPPolicy((4,))
    )
    found = sweep(algorithm, {"noise_stddev": [0.1, 0.2]}, 2, eval_episodes=2, progress="none")
    assert (found.returns == 1.0).all() and found.steps[0].tolist() == [8, 16, 24]
    np.testing.assert_array_equal(found.curves, np.ones((2, 2, 3)))


def test_the_seeds_alone_may_be_swept_and_no_episode_may_ever_end():
    algorithm = PPO(EndlessReward(), num_envs=4, **SIZES)
    found = sweep(algorithm, {}, 2, eval_episodes=2, max_episode_steps=9, progress="none")
    assert (found.returns == 9.0).all(), "episodes that do not end count as they stand"
    assert np.isnan(found.curves).all() and np.isnan(found.table[0]["training"])
    assert found.plot()._repr_png_().startswith(b"\x89PNG")


# --- summarized ---------------------------------------------------------------------------


def test_a_row_holds_the_statistics_of_its_runs():
    returns = np.random.default_rng(0).normal(size=(3, 8))
    result = made(returns)
    for row in result.table:
        mine = returns[round((row["gamma"] - 0.5) * 100)]
        assert row["iqm"] == interquartile_mean(mine[:, None])
        assert (row["iqm"], row["low"], row["high"]) == bootstrap(mine)
        assert (row["mean"], row["min"], row["max"]) == (mine.mean(), mine.min(), mine.max())
    means = [row["iqm"] for row in result.table]
    assert means == sorted(means, reverse=True)
    assert result.best.values["gamma"] == result.table[0]["gamma"]


def test_equal_final_returns_are_told_apart_by_who_learned_faster():
    result = made(np.full((2, 3), 500.0), curves=[np.ones((3, 2)), np.full((3, 2), 2.0)])
    assert [row["training"] for row in result.table] == [2.0, 1.0]


def test_a_run_that_diverged_counts_as_the_worst_of_the_others():
    nan = np.nan
    result = made([[9.0, nan, 9.0, 9.0], [5.0, 4.0, 3.0, 2.0], [nan] * 4])
    first, second, last = result.table
    assert (first["min"], first["max"], first["diverged"]) == (2.0, 9.0, 1)
    assert (second["iqm"], second["diverged"]) == (3.5, 0)
    assert (last["iqm"], last["low"], last["high"], last["diverged"]) == (2.0, 2.0, 2.0, 4)


def test_where_all_diverged_there_is_a_table_of_nan():
    result = made(np.full((2, 2), np.nan))
    assert np.isnan(result.table[0]["iqm"]) and "nan" in repr(result)
    assert result.plot()._repr_png_().startswith(b"\x89PNG")


def test_the_mean_return_of_training_weighs_points_by_their_steps_and_leaves_out_gaps():
    curves = [[[1.0, 4.0, np.nan], [np.nan, 5.0, np.nan]]]
    result = made([[1.0, 1.0]], curves=curves, steps=[[10, 40, 40]])
    assert result.table[0]["training"] == ((10 * 1 + 30 * 4) / 40 + 5.0) / 2


def test_the_table_reads_well():
    result = made([[1234.5, 1000.0], [0.25, 0.75]], keys=("gamma", "gae_lambda"))
    assert repr(result).splitlines() == [
        "PPO on WildReset: configurations x seeds = 2 x 2",
        "gamma  gae_lambda   IQM  95% interval  mean   min   max  training",
        "  0.5         0.5  1117  [1000, 1234]  1117  1000  1234      1117",
        " 0.51        0.51     0        [0, 1]     0     0     1         0",
    ]
    diverged = made([[0.25, 0.75], [0.5, np.nan]])
    assert repr(diverged).splitlines()[1:] == [
        "gamma     IQM      95% interval    mean     min     max  training  diverged",
        "  0.5  0.5000  [0.2500, 0.7500]  0.5000  0.2500  0.7500    0.5000         0",
        " 0.51  0.3750  [0.2500, 0.5000]  0.3750  0.2500  0.5000    0.5000         1",
    ]


def test_many_updates_are_merged_exactly_into_few_points():
    rng, updates, rows = np.random.default_rng(0), 1234, sweeping.MAX_CURVE_ROWS
    count = rng.integers(0, 3, (2, updates)).astype(np.int32)
    count[:, :7] = 0
    mean = rng.normal(size=(2, updates)).astype(np.float32)
    mean[count == 0] = np.nan
    lane = Lane(count, mean, np.zeros((2, 1)), np.ones((2, 1), bool), np.ones(2, bool))
    configurations = expand(KNOWN, {})
    steps, curves = sweeping._learning_curves(configurations, [lane])
    assert steps.shape == (1, rows) and curves.shape == (1, 2, rows)
    assert steps[0, -1] == updates * KNOWN.steps_per_update and (np.diff(steps) > 0).all()
    edges = [0, *(steps[0] // KNOWN.steps_per_update)]
    assert np.isnan(curves[0, :, 0]).all(), "six updates without an episode"
    for row in (1, 50, rows - 1):
        part = slice(edges[row], edges[row + 1])
        for seed in range(2):
            there = count[seed, part] > 0
            weights = count[seed, part][there]
            expected = np.average(mean[seed, part][there].astype(float), weights=weights)
            np.testing.assert_allclose(curves[0, seed, row], expected, rtol=1e-12)


# --- shown and saved ----------------------------------------------------------------------


def test_the_plot_shows_the_best_first_with_bands_and_intervals():
    rng = np.random.default_rng(1)
    result = made(rng.normal([[1.0], [3.0], [2.0]], 0.1, (3, 8)), curves=rng.normal(size=(3, 8, 5)))
    left, right = result.plot(most=2).axes
    labels = [line.get_label() for line in left.lines]
    assert labels == ["gamma=0.51", "gamma=0.52"]
    assert [text.get_text() for text in right.get_yticklabels()] == labels
    middle = [interquartile_mean(column[:, None]) for column in result.curves[1].T]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), middle)
    low, high = right.lines[0].get_xdata()
    assert (low, high) == (result.table[0]["low"], result.table[0]["high"])


def test_configurations_that_look_alike_are_numbered():
    configurations = tuple(
        expand(KNOWN, {"env": [WildReset(first_reward=1.0), WildReset(first_reward=2.0)]})
    )
    ones = np.ones((2, 1))
    result = Sweep(configurations, (0,), ones, ones * 0, np.ones((2, 1), int), ones[:, :, None])
    labels = [line.get_label() for line in result.plot().axes[0].lines]
    assert labels == ["1: env=WildReset", "2: env=WildReset"]


def test_a_sweep_is_saved_as_a_table_arrays_and_a_picture(tmp_path, known):
    known.save(tmp_path / "sweep")
    with open(tmp_path / "sweep" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["iqm"]) for row in rows] == [7.0, 7.0, 3.0, 3.0]
    assert rows[0].keys() == known.table[0].keys()
    with np.load(tmp_path / "sweep" / "runs.npz") as arrays:
        np.testing.assert_array_equal(arrays["curves"], known.curves)
        np.testing.assert_array_equal(arrays["returns"], known.returns)
        assert arrays["seeds"].tolist() == [5, 1, 2]
    assert (tmp_path / "sweep" / "curves.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(FileError, match="there is no folder"):
        known.to_csv(tmp_path / "nowhere" / "table.csv")


# --- refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": {"gama": [0.9]}}, "grid: gama: unknown key; did you mean 'gamma'?"),
        ({"seeds": 0}, "seeds: expected one at least, distinct .* to 2.31 - 1, got []"),
        ({"seeds": [1, 1]}, "seeds: expected one at least, distinct .* got [1, 1]"),
        ({"seeds": [0.5]}, "seeds: expected one at least, .* got [0.5]"),
        ({"seeds": [-1]}, "seeds: expected one at least, .* got [-1]"),
        ({"seeds": [2**31]}, "seeds: expected one at least, .* got [2147483648]"),
        ({"seeds": True}, "seeds: expected a number of them or a list, got True"),
        ({"seeds": None}, "seeds: expected a number of them or a list, got None"),
        ({"memory": 0}, "memory: must be a positive number of bytes, got 0"),
        ({"memory": float("nan")}, "memory: must be a positive number of bytes, got nan"),
        ({"devices": []}, "devices: got none"),
        ({"eval_episodes": 0}, "eval_episodes: must be a whole number of at least 1, got 0"),
        ({"progress": "loud"}, "progress: unknown 'loud'"),
        ({"num_evaluations": 3}, "num_evaluations: is for single runs"),
        ({"target_return": 3.0}, "target_return: is for single runs"),
        ({"num_devices": 2}, "num_devices: "),
        ({"axis_name": "data"}, "axis_name: got data, but a sweep spreads whole runs"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"env": "CartPole-v1"}, "env: the algorithm has its env already"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_compiles(monkeypatch, options, message):
    monkeypatch.setattr(sweeping.lanes, "compile_lanes", None)
    with pytest.raises(ConfigError, match=_pattern(message)) as error:
        sweep(KNOWN, **{"grid": {}, "seeds": 2, "progress": "none", **options})
    assert "\n" not in str(error.value)


def _pattern(message):
    return message.replace("[", r"\[").replace("]", r"\]").replace("?", r"\?")


def test_importing_sweeps_loads_neither_matplotlib_nor_orbax():
    code = (
        "import sys, mazejax.runners.sweep;"
        "print(sorted({'matplotlib', 'orbax', 'gymnax', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_env_whose_statistics_are_to_be_estimated_is_swept():
    swept = sweep(
        "ppo", {"learning_rate": [1e-3, 1e-4]}, 1, env="CartPole-v1", eval_episodes=2,
        wrappers={"ObservationNormalization": {"num_samples": 64}},
        num_envs=2, num_steps=8, num_minibatches=2, total_steps=32, progress="none",
    )  # fmt: skip
    assert np.isfinite(swept.returns).all() and swept.returns.shape == (2, 1)
