"""No env's step grows unnoticed: its compiled instructions are counted."""

import jax
import pytest

from benchmarks import kern_budget

pytestmark = pytest.mark.optimized

# Another version of XLA fuses otherwise.
SLACK = 1.1 if jax.__version__.startswith("0.10.") else 1.5


@pytest.mark.parametrize("name", kern_budget.ENVS)
def test_a_step_compiles_to_no_more_instructions_than_its_budget(name):
    allowed = kern_budget.budget()[name]
    assert kern_budget.count(name) <= SLACK * allowed, (
        "if this is worth it, write the new count with: python -m benchmarks.kern_budget"
    )
