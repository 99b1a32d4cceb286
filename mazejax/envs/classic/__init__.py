"""The five classic control tasks, with Gymnasium's ids, numbers and limits, and the T-maze."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Acrobot": "mazejax.envs.classic.acrobot",
        "AcrobotObservation": "mazejax.envs.classic.acrobot",
        "AcrobotState": "mazejax.envs.classic.acrobot",
        "CartPole": "mazejax.envs.classic.cartpole",
        "CartPoleObservation": "mazejax.envs.classic.cartpole",
        "CartPoleState": "mazejax.envs.classic.cartpole",
        "JointTorque": "mazejax.envs.classic.acrobot",
        "LeftNeutralRight": "mazejax.envs.classic.mountain_car",
        "MountainCar": "mazejax.envs.classic.mountain_car",
        "MountainCarContinuous": "mazejax.envs.classic.mountain_car",
        "MountainCarObservation": "mazejax.envs.classic.mountain_car",
        "MountainCarState": "mazejax.envs.classic.mountain_car",
        "Pendulum": "mazejax.envs.classic.pendulum",
        "PendulumObservation": "mazejax.envs.classic.pendulum",
        "PendulumState": "mazejax.envs.classic.pendulum",
        "PendulumTorque": "mazejax.envs.classic.pendulum",
        "PushLeftOrRight": "mazejax.envs.classic.cartpole",
        "TMaze": "mazejax.envs.classic.t_maze",
        "TMazeObservation": "mazejax.envs.classic.t_maze",
        "TMazeState": "mazejax.envs.classic.t_maze",
        "Throttle": "mazejax.envs.classic.mountain_car",
        "UpDownLeftRight": "mazejax.envs.classic.t_maze",
    },
)
