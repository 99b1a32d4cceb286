"""Bridges: environments of other libraries as ours, and ours as theirs."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "HostEnvSpec": "mazejax.envs.bridges.host_spec",
        "HostVectorEnv": "mazejax.envs.bridges.gymnasium",
        "brax": "mazejax.envs.bridges.brax",
        "gymnasium": "mazejax.envs.bridges.gymnasium",
        "gymnax": "mazejax.envs.bridges.gymnax",
    },
)
