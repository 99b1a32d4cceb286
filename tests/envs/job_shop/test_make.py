"""Job shops by name, by size, or of one's own instance."""

import pytest

from mazejax.envs.job_shop.instances import FT10, FixedInstance, UniformInstances
from mazejax.envs.job_shop.make import make_job_shop
from mazejax.errors import ConfigError
from mazejax.spaces import Discrete


def test_instances_are_chosen_by_name_size_or_value():
    assert make_job_shop().action_space == Discrete(6)
    assert make_job_shop("ft10").core_env.instances is FT10
    sized = make_job_shop("random", num_jobs=3, num_machines=2).core_env.instances
    assert sized == UniformInstances(3, 2)
    own = FixedInstance(((1, 0),), ((4, 5),))
    env = make_job_shop(own, illegal_penalty=0.5)
    assert env.core_env.instances == own and env.core_env.illegal_penalty == 0.5
    assert env.observation_space["jobs"].shape == (1, 6)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ConfigError, match="num_jobs given with the instance 'ft06', whose sizes"):
        make_job_shop("ft06", num_jobs=3)
    with pytest.raises(ConfigError, match="unknown instance 'ft6'; did you mean 'ft06'"):
        make_job_shop("ft6")
    with pytest.raises(ConfigError, match="has no field 'jobs'"):
        make_job_shop("random", jobs=3)
