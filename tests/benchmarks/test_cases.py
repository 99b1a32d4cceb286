"""The cases of benchmarks can be built, so that none rots unseen; nothing is timed."""

import jax
import pytest

from benchmarks import events, wrappers


@pytest.mark.parametrize("module", [events, wrappers], ids=["events", "wrappers"])
def test_every_case_is_a_function_of_a_key(module):
    for name, build in module.cases().items():
        contenders = build()
        assert len({contender.name for contender in contenders}) == len(contenders) >= 2, name
        jax.eval_shape(contenders[-1].function, jax.random.key(0))
