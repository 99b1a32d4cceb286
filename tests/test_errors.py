import subprocess
import sys

import pytest

from mazejax import errors
from mazejax.errors import did_you_mean

FAMILIES = [errors.ConfigError, errors.EnvError, errors.SpaceError, errors.FileError]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_caught_as_a_mazejax_error_and_not_as_another(family):
    with pytest.raises(errors.MazejaxError, match=r"^text$") as caught:
        raise family("text")
    assert [one for one in FAMILIES if isinstance(caught.value, one)] == [family]
    assert not isinstance(caught.value, (ValueError, TypeError, OSError))


def test_every_error_of_the_module_is_one_of_the_families():
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    own = {one for one in classes if one.__module__ == errors.__name__}
    assert own - {errors.MazejaxError} == set(FAMILIES)


KNOWN = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CartPol-v1", "did you mean 'CartPole-v1'?"),
        ("cartpole-v1", "did you mean 'CartPole-v1'?"),
        ("PENDULUM-V1", "did you mean 'Pendulum-v1'?"),
        ("CartPole-v1", "did you mean 'CartPole-v1'?"),
        ("xyz", "known names: Acrobot-v1, CartPole-v1, Pendulum-v1"),
        ("", "known names: Acrobot-v1, CartPole-v1, Pendulum-v1"),
    ],
)
def test_the_nearest_name_is_suggested_whatever_its_case(name, sentence):
    assert did_you_mean(name, KNOWN) == sentence
    assert did_you_mean(name, iter(KNOWN)) == sentence


def test_several_near_names_are_suggested_nearest_first():
    sentence = did_you_mean("size_1", ["size_2", "size_1x", "length"])
    assert sentence == "did you mean 'size_1x' or 'size_2'?"


def test_names_that_share_only_their_ending_with_a_nearer_one_are_not_suggested():
    assert did_you_mean("CartPol-v1", KNOWN) == "did you mean 'CartPole-v1'?"


def test_names_that_differ_in_case_only_are_all_suggested():
    assert did_you_mean("Env", ["env", "ENV", "other"]) == "did you mean 'ENV' or 'env'?"


def test_a_long_list_of_known_names_is_cut_and_an_empty_one_is_told():
    names = [f"{letter}{letter}" for letter in "abcdefghijklmn"]
    assert did_you_mean("?", names[:12]) == f"known names: {', '.join(names[:12])}"
    assert did_you_mean("?", names) == f"known names: {', '.join(names[:12])}, and 2 more"
    assert did_you_mean("?", []) == "no names are known"


def test_errors_need_nothing_but_the_standard_library():
    code = "import sys, mazejax.errors; print('jax' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["False", "False"]
