"""The host loop changes nothing that is learned, and loses nothing."""

import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs.probe import EndlessReward
from mazejax.errors import ConfigError, EnvError
from mazejax.runners import checkpoint, training
from mazejax.runners.evaluation import evaluate
from mazejax.runners.program import compile_program
from mazejax.runners.run_context import RunContext
from tests.runners.tiny import TINY, child, digest, tiny_run


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run trained without interruption, and the digest of its final state."""
    run = tiny_run(tmp_path_factory.mktemp("reference") / "run").train()
    return run, digest(run.state)


def stop_after(updates, monkeypatch):
    """Send SIGINT to this process when that many updates are reported."""
    original, sent = training.TrainingLoop._report, []

    def report(loop, chunk):
        original(loop, chunk)
        if chunk is not None and chunk.first + chunk.count >= updates and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(training.TrainingLoop, "_report", report)


@pytest.mark.parametrize("updates", [1, 7])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, monkeypatch, reference, updates):
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHUNK_SECONDS", 0.0)
        stop_after(updates, patch)
        run = tiny_run(tmp_path / "run").train()
    assert run.interrupted == signal.SIGINT
    stopped = checkpoint.latest(tmp_path / "run")
    assert updates <= stopped < 12
    resumed = RunContext.load(tmp_path / "run").train()
    assert resumed.interrupted is None
    assert digest(resumed.state) == reference[1]


def test_a_new_process_resumes_bit_for_bit(tmp_path, monkeypatch, reference):
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHUNK_SECONDS", 0.0)
        stop_after(5, patch)
        tiny_run(tmp_path / "run").train()
    code = f"""
from tests.runners.tiny import digest
from mazejax.runners.run_context import RunContext
print(digest(RunContext.load({str(tmp_path / "run")!r}).train().state))
"""
    out, err = child(code).communicate(timeout=100)
    assert out.strip() == reference[1], err


@pytest.mark.parametrize("seconds", [0.0, 0.002, 1e9])
def test_chunk_sizes_do_not_change_the_bits(tmp_path, monkeypatch, reference, seconds):
    monkeypatch.setattr(training, "CHUNK_SECONDS", seconds)
    assert digest(tiny_run(tmp_path / "run").train().state) == reference[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_evaluations": 0},
        {"num_evaluations": 12, "eval_episodes": 5},
        {"num_checkpoints": 0},
        {"tensorboard": True},
        {"progress": "plain"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_looking_at_a_run_does_not_change_the_bits(tmp_path, reference, changes):
    assert digest(tiny_run(tmp_path / "run", **changes).train().state) == reference[1]


def test_another_seed_gives_another_run(tmp_path, reference):
    assert digest(tiny_run(tmp_path / "run", seed=1).train().state) != reference[1]


def test_equal_algorithms_built_anew_compile_once(tmp_path, reference):
    misses = compile_program.cache_info().misses
    tiny_run(tmp_path / "run").train()
    assert compile_program.cache_info().misses == misses


def test_the_compiled_run_agrees_with_the_pure_train_function(reference):
    run, _ = reference
    state, metrics = jax.jit(run.algorithm.train)(random.key(0))
    for ours, pure in zip(
        jax.tree.leaves(run.state.variables), jax.tree.leaves(state.variables), strict=True
    ):
        np.testing.assert_allclose(ours, pure, rtol=1e-4, atol=1e-5)
    curve = run.metrics["train/episode_return"]
    happened = np.asarray(metrics["train/episode_return"].count) > 0
    np.testing.assert_array_equal(curve.steps, 32 * (1 + np.flatnonzero(happened)))
    means = np.asarray(metrics["train/episode_return"].mean)[happened]
    np.testing.assert_allclose(curve.values, means, rtol=1e-5)


def test_the_best_policy_is_the_one_that_was_evaluated(tmp_path):
    run = tiny_run(tmp_path / "run", num_evaluations=6).train()
    curve = run.metrics["eval/return_mean"]
    again = evaluate(run.algorithm, run._best.variables, run.seed, 3)
    assert again.mean_return == pytest.approx(curve.values.max())
    loaded = RunContext.load(tmp_path / "run")
    assert digest(loaded._best.variables) == digest(run._best.variables)
    assert loaded.evaluate(episodes=4).returns.tolist() == run.evaluate(episodes=4).returns.tolist()


def test_metrics_of_a_resumed_run_are_those_of_an_uninterrupted_one(
    tmp_path, monkeypatch, reference
):
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHUNK_SECONDS", 0.0)
        stop_after(5, patch)
        tiny_run(tmp_path / "run").train()
    resumed = RunContext.load(tmp_path / "run").train().metrics
    expected = reference[0].metrics
    assert resumed.keys() == expected.keys()
    for name in expected.keys() - {"time/steps_per_second"}:
        np.testing.assert_array_equal(resumed[name].steps, expected[name].steps)
        np.testing.assert_array_equal(resumed[name].values, expected[name].values)


def test_updates_are_merged_into_a_bounded_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "MAX_ROWS", 4)
    curves = tiny_run(tmp_path / "run", num_evaluations=0).train().metrics
    np.testing.assert_array_equal(curves["loss/total"].steps, 32 * np.array([3, 6, 9, 12]))


def test_training_stops_at_the_target_return(tmp_path):
    run = tiny_run(tmp_path / "run", num_evaluations=12, target_return=1.0).train()
    assert int(run.state.updates) == 1


def test_totals_of_statistics_go_on_where_a_run_was_stopped(tmp_path, monkeypatch, reference):
    tag = "train_BaseEnvEvents/reward/total_step_count"
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHUNK_SECONDS", 0.0)
        patch.setattr(training, "MAX_ROWS", 5)  # updates 4 to 5 are not written when it stops
        stop_after(5, patch)
        tiny_run(tmp_path / "run").train()
    resumed = RunContext.load(tmp_path / "run").train()
    whole = reference[0].metrics[tag].values[-1]
    assert resumed.metrics[tag].values[-1] == whole > 0


def test_more_steps_continue_a_finished_run(tmp_path):
    constant = {"learning_rate_schedule": "constant"}
    short = tiny_run(tmp_path / "short", total_steps=6 * 32, **constant).train()
    longer = RunContext.load(short.directory, total_steps=12 * 32).train()
    whole = tiny_run(tmp_path / "whole", **constant).train()
    assert digest(longer.state) == digest(whole.state)


# --- what goes wrong ----------------------------------------------------------------


class PoisonedReward(EndlessReward):
    """A reward that is nan once, at time 20: in the third update of 8 steps."""

    def step_state(self, key, state, action):
        step = super().step_state(key, state, action)
        poisoned = self.time(state) == 20
        return step._replace(reward=jnp.where(poisoned, jnp.nan, step.reward))


def test_a_reward_that_is_not_finite_stops_with_the_state_before_it(tmp_path):
    run = RunContext("ppo", PoisonedReward(), directory=tmp_path / "run", **TINY)
    with pytest.raises(EnvError, match=r"update 3: reward is not finite.*checkpoint 2"):
        run.train()
    batch = np.load(run.directory / "nonfinite_update_3.npz")
    assert np.isnan(batch["transitions.0.reward"]).sum() == TINY["num_envs"]
    template = jax.eval_shape(run.algorithm.init, random.key(0))
    good = checkpoint.restore(run.directory, template, 2)
    assert int(good.updates) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.variables))


def test_diverging_weights_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is not finite; .*learning_rate"):
        tiny_run(tmp_path / "run", learning_rate=1e38, max_grad_norm=1e30).train()


SIGNALLED = """
from tests.runners.tiny import tiny_run
from mazejax.runners import training
training.CHUNK_SECONDS = 0.0
run = tiny_run({directory!r}, total_steps=20_000 * 32, num_checkpoints=0, num_evaluations=0)
print("READY", flush=True)
run.train()
print("INTERRUPTED", run.interrupted, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_chunk_saves_and_returns(tmp_path, number):
    directory = tmp_path / "run"
    process = child(SIGNALLED.format(directory=str(directory)))
    metrics = directory / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert f"INTERRUPTED {int(number)}" in out, err
    assert process.returncode == 0
    assert checkpoint.latest(directory) > 0
    for line in metrics.read_text().splitlines():
        json.loads(line)


KILLED = """
from tests.runners.tiny import digest, tiny_run
from mazejax.runners import checkpoint, training
from mazejax.runners.run_context import RunContext
from pathlib import Path
training.CHUNK_SECONDS = 0.0
directory = Path({directory!r})
save = checkpoint.save
def acknowledged(directory, step, *rest, **options):
    save(directory, step, *rest, **options)
    print("ACK", step, flush=True)
checkpoint.save = acknowledged
if (directory / "config.json").exists():
    run = RunContext.load(directory)
else:
    saves = {updates}
    run = tiny_run(directory, total_steps=saves * 32, num_checkpoints=saves, num_evaluations=0)
print("START", checkpoint.latest(directory) or 0, flush=True)
run.train()
print("DONE", digest(run.state), flush=True)
"""


def kill_storm(directory, updates, kills, generator):
    """Kill training at random moments until the kills are spent; the final digest."""
    acknowledged = 0
    while True:
        process = child(KILLED.format(directory=str(directory), updates=updates))
        lines = [process.stdout.readline()]
        assert int(lines[0].split()[1]) >= acknowledged, "an acknowledged checkpoint was lost"
        if kills:
            while not lines[-1].startswith(("ACK", "DONE")) and process.poll() is None:
                lines.append(process.stdout.readline())
            time.sleep(generator.uniform(0.0, 2.0))
            process.kill()
            kills -= 1
        out, err = process.communicate(timeout=400)
        lines += out.splitlines(keepends=True)
        whole = [line.split() for line in lines if line.endswith("\n") and line.strip()]
        acknowledged = max([acknowledged, *(int(w[1]) for w in whole if w[0] == "ACK")])
        done = [words[1] for words in whole if words[0] == "DONE"]
        if done:
            assert not kills, "the run ended before all kills were spent"
            return done[0]
        assert process.returncode == -signal.SIGKILL, err


@pytest.mark.parametrize(
    "kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_kill_dash_nine_loses_no_acknowledged_checkpoint(tmp_path, kills):
    generator = np.random.default_rng(kills)
    updates = 50 * kills  # a life makes about 20
    killed = kill_storm(tmp_path / "killed", updates, kills, generator)
    assert killed == kill_storm(tmp_path / "whole", updates, 0, generator)


def test_mazejax_train_is_the_run_itself(tmp_path):
    run = mazejax.train("ppo", "CartPole-v1", directory=tmp_path / "run", **TINY)
    assert isinstance(run, mazejax.RunContext)
    assert int(run.state.updates) == 12
