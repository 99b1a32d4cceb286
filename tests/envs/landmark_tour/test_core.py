"""The tour's rules against a plain re-implementation, its contract and its checks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.envs import check, episode
from mazejax.envs.landmark_tour.core import MANAGER, WORKER, LandmarkTour
from mazejax.envs.landmark_tour.make import make_landmark_tour
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.rendering.rasterizer import rasterize
from mazejax.spaces.masks import action_masks, sample_masked
from mazejax.types import Scene
from mazejax.wrappers.time import TimeLimit

SIZE, NUM_LANDMARKS, PERIOD = 5, 3, 4
ENV = make_landmark_tour(size=SIZE, num_landmarks=NUM_LANDMARKS, period=PERIOD)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
NUM_ENVS, NUM_STEPS = 24, 150


def heedless(key, obs, maze_state, actor):
    """Random actions that ignore the mask."""
    return ENV.action_spaces[actor.step_key].sample(key)


@pytest.fixture(scope="module", params=[episode.random_policy(ENV), heedless])
def episodes(request):
    """Random episodes [NUM_ENVS, NUM_STEPS], on the host."""
    keys = jax.random.split(random.key(0), NUM_ENVS)
    policy = request.param
    return policy, jax.device_get(
        jit(jax.vmap(lambda key: episode.play(ENV, policy, key, NUM_STEPS)))(keys)
    )


class Tour:
    """The rules in plain Python."""

    def __init__(self, worker, landmarks):
        self.worker, self.landmarks = worker, landmarks
        self.visited, self.subgoal = [False] * len(landmarks), 0
        self.time, self.reached = 0, False

    def is_asked(self):
        return self.time % PERIOD == 0 or self.reached

    def choose(self, choice):
        refused = self.visited[choice]
        if self.is_asked():
            self.subgoal = self.visited.index(False) if refused else choice
        return self.is_asked() and refused

    def away(self):
        goal = self.landmarks[self.subgoal]
        return sum(abs(a - b) for a, b in zip(self.worker, goal, strict=True))

    def walk(self, direction):
        """The landmark visited or None, and the progress."""
        before = self.away()
        self.worker = tuple(
            min(max(place + move, 0), SIZE - 1)
            for place, move in zip(self.worker, MOVES[direction], strict=True)
        )
        here = [i for i, c in enumerate(self.landmarks) if c == self.worker]
        came = next((i for i in here if not self.visited[i]), None)
        if came is not None:
            self.visited[came] = True
        self.time, self.reached = self.time + 1, came == self.subgoal
        return came, before - self.away()


def rows(cell):
    return [tuple(place) for place in np.stack([cell.row, cell.column], axis=-1).tolist()]


def of_env(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_all_that_happens_is_what_the_plain_rules_say(episodes):
    policy, played = episodes
    manager, worker = played.substeps
    refusals = on_the_way = finished = reconsidered = 0
    for i in range(NUM_ENVS):
        core = of_env(manager.state, i, 0).core
        tour = Tour(rows(of_env(core.worker, None))[0], rows(core.landmarks))
        assert len({tour.worker, *tour.landmarks}) == NUM_LANDMARKS + 1
        for t in range(int(played.length[i])):
            core = of_env(manager.state, i, t).core
            assert rows(of_env(core.worker, None)) == [tour.worker]
            assert core.visited.tolist() == tour.visited
            assert manager.obs["action_mask"][i, t].tolist() == [not v for v in tour.visited]
            assert manager.active[i, t] == tour.is_asked()
            assert worker.active[i, t]
            reconsidered += tour.is_asked() and not tour.reached
            asked, refused = tour.is_asked(), tour.choose(manager.action[i, t])
            refusals += refused
            assert worker.state.core.subgoal[i, t] == tour.subgoal
            assert manager.reward[i, t] == 0

            came, progress = tour.walk(worker.action[i, t])
            earned = (came is not None) - np.float32(0.01)
            on_the_way += came is not None and not tour.reached
            assert worker.reward[i, t] == np.float32(earned)
            credit = [part[i, t] for part in worker.info["actor_rewards"]]
            own = tour.reached + 0.1 * progress - 0.01
            np.testing.assert_allclose(credit, [earned, own], atol=1e-6)

            fired = of_env(manager.info["events"].firings, i, t)
            assert fired["TourEvents.subgoal_set"].count == asked
            assert fired["TourEvents.choice_refused"].count == refused
            if asked:
                assert fired["TourEvents.subgoal_set"].attributes["landmark"] == [tour.subgoal]
            fired = of_env(worker.info["events"].firings, i, t)
            assert fired["TourEvents.landmark_visited"].count == (came is not None)
            assert fired["TourEvents.subgoal_reached"].count == tour.reached
            if came is not None:
                assert fired["TourEvents.landmark_visited"].attributes["landmark"] == [came]
        assert played.terminated[i] == all(tour.visited)
        assert not played.truncated[i]
        finished += all(tour.visited)
    assert finished > 5 and on_the_way > 5 and reconsidered > 50
    assert (refusals > 5) == (policy is heedless)


def test_observations_are_offsets_from_the_worker(episodes):
    manager, worker = episodes[1].substeps
    for i, t in np.ndindex(NUM_ENVS, 10):
        core = of_env(worker.state, i, t).core
        place, *_ = rows(of_env(core.worker, None))
        offsets = (np.array(rows(core.landmarks)) - place) / SIZE
        np.testing.assert_allclose(worker.obs[i, t], offsets[core.subgoal], atol=1e-6)
        np.testing.assert_allclose(manager.obs["landmarks"][i, t, :, :2], offsets, atol=1e-6)
        np.testing.assert_array_equal(manager.obs["landmarks"][i, t, :, 2], core.visited)


def test_after_the_end_every_landmark_is_allowed(episodes):
    played = episodes[1]
    left = ~played.final_state.core.visited
    wanted = np.where(played.terminated[:, None], True, left)
    np.testing.assert_array_equal(played.final_obs["action_mask"], wanted)
    assert played.terminated.any()


def test_an_action_of_the_inactive_manager_has_no_effect():
    env = LandmarkTour(size=SIZE, num_landmarks=3, period=PERIOD)
    first = jax.jit(env.reset)(random.key(1)).state
    state = first.replace(countdown=jnp.int8(2), subgoal=jnp.int8(1))
    choose = jax.jit(lambda state, choice: env.step(random.key(0), state, choice, MANAGER))
    assert not env.actor_active(state, MANAGER) and env.actor_active(state, WORKER)
    for choice in range(3):
        step = choose(state, jnp.int32(choice))
        assert step.state == state
        assert not any(firings.count for firings in step.events.firings.values())


def test_the_manager_is_asked_at_the_longest_period_too():
    env = LandmarkTour(period=127)
    state = jax.jit(env.reset)(random.key(0)).state
    asked = []
    walk = jax.jit(lambda s: env.step(random.key(0), s, jnp.int32(0), WORKER).state)
    for _ in range(130):
        asked.append(bool(state.countdown == 0))
        state = walk(state)
    assert np.flatnonzero(asked).tolist() == [0, 127]


def test_kpis_follow_from_the_events(episodes):
    played = episodes[1]
    steps = int(played.length[0])
    kpis = of_env(played, 0).kpis(ENV)
    visited = int(played.final_state.core.visited[0].sum())
    assert float(kpis["landmarks_visited"]) == visited
    assert float(kpis["steps_per_landmark"]) == pytest.approx(steps / max(visited, 1))
    assert float(kpis["decisions"]) == played.substeps[0].active[0].sum()


def test_the_state_is_small_and_keeps_its_types_in_every_sub_step():
    env, key = LandmarkTour(), random.key(0)
    state = jax.jit(env.reset)(key).state
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 3 * 5 + 5

    def signature(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    for actor in env.actors:
        step = jax.jit(functools.partial(env.step, actor=actor))(key, state, jnp.int32(1))
        assert signature(step.state) == signature(state)
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(step))


def test_reset_strategies_give_the_same_trajectories():
    def run(strategy):
        env = make_landmark_tour(size=4, num_landmarks=2, period=PERIOD)
        vector = VectorEnv(TimeLimit(env, 40), 6, auto_reset=strategy)

        def one_flat_step(now, _):
            (obs, state), seen = now, []
            for actor in vector.actors:
                space = vector.action_spaces[actor.step_key]
                masks = action_masks(space, obs)
                policy_keys = vector.keys(state, "policy")
                if masks is None:
                    action = jax.vmap(space.sample)(policy_keys)
                else:
                    action = jax.vmap(lambda k, m, s=space: sample_masked(s, k, m))(
                        policy_keys, masks
                    )
                step = vector.step(state, action)
                obs, state = step.obs, step.state
                seen.append((step.obs, step.reward, step.terminated, step.truncated))
            return (obs, state), seen

        @jax.jit
        def walk(key):
            return jax.lax.scan(one_flat_step, vector.reset(key), length=100)[1]

        return jax.device_get(walk(random.key(3)))

    always, compact = run("always"), run("compact")
    assert always[1][2].sum() > 3 and always[1][3].sum() > 3
    jax.tree.map(np.testing.assert_array_equal, always, compact)


def test_it_keeps_the_contract_of_environments():
    report = check.check_env(TimeLimit(ENV, 30), num_steps=60)
    # The worker's credit is its own progress, so the credits do not sum to the flat reward.
    assert all("actor_rewards: sum to" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size": 1}, "size: got 1, expected an integer from 2 to 64"),
        ({"size": 2, "num_landmarks": 4}, "num_landmarks: got 4, expected an integer from 1 to 3"),
        ({"period": 0}, "period: got 0, expected an integer from 1 to 127"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(numbers, message):
    with pytest.raises(ConfigError, match=f"LandmarkTour.{message}"):
        LandmarkTour(**numbers)


def test_it_can_be_drawn():
    state = jax.jit(ENV.reset_state)(random.key(0))
    scene = ENV.draw(state)
    assert isinstance(scene, Scene)
    row, column = state.core.worker.at
    picture = rasterize(scene, width=520)
    np.testing.assert_array_equal(picture[100 * row + 70, 100 * column + 60], (0, 178, 184))
