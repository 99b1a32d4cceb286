"""Tests of mazejax.runners.checkpoint, and through it of arrays and manifests."""

import collections
import json
import math
import os
import pathlib
import random as stdlib_random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mazejax import files, random
from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, FileError
from mazejax.runners import checkpoint, manifests
from mazejax.types import Array

Pair = collections.namedtuple("Pair", ["first", "second"])


class Statistics(Pytree):
    mean: Array
    names: tuple[str, ...] = static(default=("a", "b"))


def make_tree():
    params = {
        "dense/0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.full(3, -0.0, jnp.float32)}
    }
    return {
        "params": flax.core.FrozenDict(params),
        "optimizer": optax.adam(1e-3).init(params),
        "statistics": Statistics(jnp.array([jnp.nan, jnp.inf], jnp.bfloat16)),
        "keys": Pair(random.key(3), jax.random.split(jax.random.key(4), 3)),
        "none": None,
        "count": jnp.uint32(2**32 - 1),
    }


def bits(tree):
    """Everything that must come back: structure, types, dtypes, weak types and bytes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [
        (
            isinstance(leaf, jax.Array),
            type(leaf) if not isinstance(leaf, jax.Array) else None,
            str(getattr(leaf, "dtype", "")),
            getattr(leaf, "weak_type", False),
            np.shape(leaf),
            np.asarray(jax.random.key_data(leaf) if random.is_key(leaf) else leaf).tobytes(),
        )
        for leaf in leaves
    ]


@pytest.fixture(scope="module")
def tree():
    return make_tree()


@pytest.fixture(scope="module")
def template():
    return jax.eval_shape(make_tree)


@pytest.fixture(scope="module")
def golden(tree, tmp_path_factory):
    """Run directory with one checkpoint of step 7; not to be written to."""
    directory = tmp_path_factory.mktemp("golden")
    checkpoint.save(directory, 7, tree, {"score": 0.5, "who": ["me", 1]})
    return directory


@pytest.fixture
def copy(golden, tmp_path):
    shutil.copytree(golden, tmp_path / "run")
    return tmp_path / "run"


# --- round trips --------------------------------------------------------------------


def test_a_whole_training_state_comes_back_bit_for_bit(golden, tree, template):
    assert bits(checkpoint.restore(golden, template)) == bits(tree)
    assert bits(checkpoint.restore(golden, tree, 7)) == bits(tree)


def nan_bits():
    return np.array([0x7FC00123, 0xFFC00001, 0x80000000, 1], np.uint32).view(np.float32)


LEAVES = {
    "payloads of nan, minus zero, denormals": lambda: jnp.array(nan_bits()),
    "nothing but the fill value": lambda: jnp.zeros((1000, 3)),
    "scalar": lambda: jnp.float32(3.5),
    "bool": lambda: jnp.array([True, False]),
    "int8": lambda: jnp.array([-128, 127], jnp.int8),
    "uint8 image": lambda: jnp.arange(256, dtype=jnp.uint8).reshape(16, 16),
    "int4": lambda: jnp.array([-8, 7], jnp.int4),
    "float16": lambda: jnp.array([1e-7, 65504.0], jnp.float16),
    "bfloat16": lambda: jnp.array([1e38, -0.0], jnp.bfloat16),
    "float8": lambda: jnp.array([0.5, -2.0], jnp.float8_e4m3fn),
    "complex64": lambda: jnp.array([1 + 2j], jnp.complex64),
    "empty": lambda: jnp.zeros((0, 3), jnp.int16),
    "counter key": lambda: random.key(1),
    "counter keys": lambda: jax.random.split(random.key(1), (2, 3)),
    "threefry key": lambda: jax.random.key(1),
    "rbg keys": lambda: jax.random.split(jax.random.key(1, impl="rbg"), 2),
    "no keys": lambda: jax.random.split(random.key(0), 1)[:0],
    "numpy float64": lambda: np.array([math.pi, -0.0]),
    "numpy int64": lambda: np.array(2**62),
    "numpy in Fortran order": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "numpy scalar": lambda: np.float64(0.1),
    "Python float": lambda: 0.1,
    "Python int": lambda: -(2**60),
    "Python bool": lambda: True,
    "Python complex": lambda: 1 + 2j,
}


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    tree = {name: make() for name, make in LEAVES.items()}
    checkpoint.save(tmp_path, 0, tree)
    restored = checkpoint.restore(tmp_path, tree)
    for name in LEAVES:
        assert bits(restored[name]) == bits(tree[name]), name


@pytest.mark.parametrize("tree", [(), None, {"a": []}, jnp.zeros((0,)), jnp.arange(3), {}])
def test_trees_without_arrays_and_bare_leaves_come_back(tmp_path, tree):
    checkpoint.save(tmp_path, 0, tree)
    assert bits(checkpoint.restore(tmp_path, tree)) == bits(tree)


def test_weak_types_do_not_come_back_and_arrays_stay_uncommitted(tmp_path):
    weak = jax.jit(lambda: jnp.asarray(1.0) * 2)()
    checkpoint.save(tmp_path, 0, {"x": jnp.asarray(2.0), "k": random.key(0), "w": weak})
    restored = checkpoint.restore(tmp_path, {"x": jnp.asarray(1.0), "k": random.key(1), "w": weak})
    assert not any(leaf.weak_type for leaf in (restored["x"], restored["w"]))
    assert not restored["x"].committed  # else the first jitted call would compile once more


def test_restored_numpy_arrays_can_be_written_to(tmp_path):
    checkpoint.save(tmp_path, 0, np.zeros(2))
    restored = checkpoint.restore(tmp_path, np.zeros(2))
    restored += 1
    assert restored.tolist() == [1, 1]


def test_big_endian_arrays_come_back_equal_in_native_order(tmp_path):
    checkpoint.save(tmp_path, 0, np.arange(3, dtype=">f4"))
    assert checkpoint.restore(tmp_path, np.zeros(3, np.float32)).tolist() == [0, 1, 2]


SPREADING_PROCESS = """
import sys
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from mazejax.runners import checkpoint

spread = NamedSharding(jax.make_mesh((2,), ("envs",)), PartitionSpec("envs"))
tree = {"obs": jax.device_put(jnp.arange(8.0), spread), "step": jnp.int32(3)}
checkpoint.save(sys.argv[1], 0, tree)
like = {"obs": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=spread), "step": tree["step"]}
restored = checkpoint.restore(sys.argv[1], like)
assert restored["obs"].sharding == spread and not restored["step"].committed
assert (restored["obs"] == tree["obs"]).all()
"""


def test_arrays_spread_over_devices_come_back_spread(tmp_path):
    root = str(pathlib.Path(__file__).parents[2])
    child = subprocess.run(
        [sys.executable, "-c", SPREADING_PROCESS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root, "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    restored = checkpoint.restore(tmp_path, {"obs": jnp.zeros(8), "step": jnp.int32(0)})
    assert restored["obs"].tolist() == list(range(8))


def test_64_bits_are_never_cut_to_32_in_silence(tmp_path):
    checkpoint.save(tmp_path, 0, {"n": np.array(2**40)})
    with pytest.raises(FileError, match=r"leaf \['n'\]: got int64, which needs 64-bit types"):
        checkpoint.restore(tmp_path, {"n": jax.ShapeDtypeStruct((), np.int64)})


def test_metadata_comes_back_from_the_manifest(golden):
    manifest = checkpoint.read_manifest(golden, 7)
    assert manifest["metadata"] == {"score": 0.5, "who": ["me", 1]}
    assert manifest["step"] == 7 and manifest["schema"] == manifests.SCHEMA
    assert manifest["random"] == {
        "implementations": ["counter", "threefry2x32"],
        "version": random.VERSION,
    }
    assert manifest["versions"]["jaxlib"] == jax.lib.__version__
    assert manifest["leaves"][0] == {
        "path": "['count']",
        "shape": [],
        "dtype": "uint32",
        "key": None,
    }


def test_saving_leaves_no_threads_and_no_open_files_behind(tmp_path):
    tree = {"a": np.zeros(3)}

    def once():
        checkpoint.save(tmp_path, 0, tree)
        checkpoint.restore(tmp_path, tree)
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    if not pathlib.Path("/proc/self/fd").exists():
        pytest.skip("open files cannot be counted here")
    before = [once() for _ in range(3)][-1]
    after = [once() for _ in range(5)][-1]
    # One leak per save would be five; others in this process may open one at any time.
    assert all(late - early < 5 for early, late in zip(before, after, strict=True))


# --- what does not fit --------------------------------------------------------------


def changed(template, **changes):
    return {**template, **changes}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": jnp.int32(0)}, r"leaf \['count'\]: got dtype uint32, wanted int32"),
        ({"count": jnp.zeros(2, jnp.uint32)}, r"leaf \['count'\]: got shape \(\), wanted \(2,\)"),
        ({"extra": jnp.zeros(2)}, r"leaf \['extra'\]: got none"),
        ({"count": None}, r"leaf \['count'\]: got one, the template has none"),
        (
            {"keys": Pair(jax.random.key(0), jax.random.split(jax.random.key(0), 3))},
            r"leaf \['keys'\]\.first: got key implementation counter, wanted threefry2x32",
        ),
        (
            {"keys": Pair(np.zeros(2, np.uint32), jax.random.split(jax.random.key(0), 3))},
            r"leaf \['keys'\]\.first: got key implementation counter, wanted None",
        ),
        (
            {"statistics": Statistics(jnp.zeros(2, jnp.bfloat16), ("a", "c"))},
            r"static field \['statistics'\]\.names: got \('a', 'b'\), wanted \('a', 'c'\)",
        ),
        (
            {"statistics": Statistics(jnp.zeros(2, jnp.float32))},
            r"leaf \['statistics'\]\.mean: got dtype bfloat16, wanted float32",
        ),
        ({"none": ()}, r"static node \['none'\]: got NoneType, wanted tuple"),
    ],
)
def test_a_template_that_does_not_fit_is_a_file_error_naming_the_culprit(
    golden, template, change, sentence
):
    with pytest.raises(FileError, match=sentence) as caught:
        checkpoint.restore(golden, changed(template, **change))
    assert "step_000000000007" in str(caught.value) and "\n" not in str(caught.value)


def test_leaves_that_are_no_numbers_and_bad_arguments_are_config_errors(tmp_path):
    for arguments, sentence in [
        ((0, {"name": "text"}), r"leaf \['name'\]"),
        ((-1, {}), "step: got -1"),
        ((10**12, {}), "step: got"),
        ((1.5, {}), r"step: got 1\.5"),
        ((0, {}, {"score": math.nan}), "cannot be written as JSON"),
        ((0, {}, None, 0), "keep: got 0"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            checkpoint.save(tmp_path, *arguments)
    assert checkpoint.steps(tmp_path) == [] and not list(tmp_path.glob("checkpoints/*"))


def rewrite_manifest(directory, change, step=7):
    """Change a manifest the way another version or a stranger would: with a fitting digest."""
    path = directory / f"checkpoints/step_{step:012d}/manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    manifest.pop("digest", None)
    path.write_text(json.dumps({**manifest, "digest": manifests.digest(manifest)}))


def test_other_versions_are_named(copy, tree, template):
    rewrite_manifest(copy, lambda m: m["versions"].update(jaxlib="0.0.1"))
    with pytest.warns(UserWarning, match=r"saved with jaxlib 0\.0\.1, this is"):
        assert bits(checkpoint.restore(copy, template)) == bits(tree)
    rewrite_manifest(copy, lambda m: m["random"].update(version=99))
    with pytest.raises(FileError, match=r"random\.version: got bits of version 99, wanted"):
        checkpoint.restore(copy, template)
    rewrite_manifest(copy, lambda m: m.update(schema=99))
    with pytest.raises(FileError, match="schema: got 99, this version reads 1"):
        checkpoint.restore(copy, template)


def test_bits_of_another_version_do_not_matter_where_no_key_uses_them(tmp_path):
    checkpoint.save(tmp_path, 7, jnp.ones(2))
    rewrite_manifest(tmp_path, lambda m: m["random"].update(version=99))
    assert checkpoint.restore(tmp_path, jnp.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("leaves"),
        lambda m: m.update(leaves=3),
        lambda m: m.update(leaves=[1, 2]),
        lambda m: m["leaves"][0].update(dtype="evil"),
        lambda m: m["leaves"][0].update(shape=["x"]),
        lambda m: m["leaves"][0].update(more=1),
        lambda m: m.update(statics=[1]),
        lambda m: m.pop("fingerprint"),
        lambda m: m.update(random=None),
        lambda m: m.update(versions=5),
        lambda m: m.update(files=None),
        lambda m: m.update(files=[["../../x", 1]]),
        lambda m: m["files"].update({"../../../x": {"size": 0, "sha256": ""}}),
        lambda m: m["files"].clear(),
        lambda m: m.update(step=8),
        lambda m: m.update(fingerprint="0"),
    ],
)
def test_malformed_manifests_are_file_errors(copy, template, change):
    rewrite_manifest(copy, change)
    with pytest.raises(FileError, match="step_000000000007"):
        checkpoint.restore(copy, template)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '"x"', "[" * 1000, '{"schema": 1}'])
def test_a_manifest_of_another_form_is_a_file_error(copy, content):
    (copy / "checkpoints/step_000000000007/manifest.json").write_text(content)
    with pytest.raises(FileError, match=r"manifest\.json"):
        checkpoint.read_manifest(copy, 7)


@pytest.mark.parametrize(
    ("module", "cap", "value"),
    [
        (manifests, "MAX_LEAVES", 5),
        (manifests, "MAX_ARRAY_BYTES", 23),
        (manifests, "MAX_CHECKPOINT_BYTES", 40),
        (files, "MAX_JSON_BYTES", 100),
    ],
)
def test_each_cap_is_named_when_saving(tmp_path, tree, monkeypatch, module, cap, value):
    monkeypatch.setattr(module, cap, value)
    with pytest.raises(FileError, match=f"{cap} allows {value}"):
        checkpoint.save(tmp_path, 1, tree)
    assert os.listdir(tmp_path) in ([], ["checkpoints"])
    assert checkpoint.steps(tmp_path) == []


@pytest.mark.parametrize("cap", ["MAX_LEAVES", "MAX_ARRAY_BYTES", "MAX_CHECKPOINT_BYTES"])
def test_each_cap_is_named_when_restoring(golden, template, monkeypatch, cap):
    monkeypatch.setattr(manifests, cap, 7)
    with pytest.raises(FileError, match=f"{cap} allows 7"):
        checkpoint.restore(golden, template)


def test_arrays_that_orbax_declares_otherwise_are_not_read(tmp_path):
    """A bomb: manifest and template say 4 bytes, the arrays in the folder are another matter."""
    checkpoint.save(tmp_path, 1, np.zeros(1_000_000, np.float32))
    checkpoint.save(tmp_path, 7, np.zeros(1, np.float32))
    folders = tmp_path / "checkpoints"
    shutil.rmtree(folders / "step_000000000007/state")
    shutil.copytree(folders / "step_000000000001/state", folders / "step_000000000007/state")
    listed = json.loads((folders / "step_000000000001/manifest.json").read_bytes())["files"]
    rewrite_manifest(tmp_path, lambda m: m.update(files=listed))
    with pytest.raises(FileError, match="are not those of the manifest"):
        checkpoint.restore(tmp_path, np.zeros(1, np.float32), 7)


# --- listing, retention, leftovers --------------------------------------------------


def save_small(directory, step, **options):
    return checkpoint.save(directory, step, {"x": np.full(2, step)}, **options)


def restore_small(directory, step=None):
    return int(checkpoint.restore(directory, {"x": np.zeros(2, np.int64)}, step)["x"][0])


def test_only_the_newest_and_the_protected_are_kept(tmp_path):
    for step in (0, 10, 20, 30, 40):
        save_small(tmp_path, step, keep=2, protected=[10])
    assert checkpoint.steps(tmp_path) == [10, 30, 40]
    assert checkpoint.latest(tmp_path) == 40
    save_small(tmp_path, 5, keep=1)  # what was just saved is never removed
    assert checkpoint.steps(tmp_path) == [5, 40]
    save_small(tmp_path, 6, keep=None)
    assert checkpoint.steps(tmp_path) == [5, 6, 40]
    checkpoint.remove_after(tmp_path, 5)
    assert checkpoint.steps(tmp_path) == [5]
    assert os.listdir(tmp_path / "checkpoints") == ["step_000000000005"]


def test_the_newest_is_restored_unless_a_step_is_named(tmp_path):
    for step in (1, 2):
        save_small(tmp_path, step)
    assert restore_small(tmp_path) == 2 and restore_small(tmp_path, 1) == 1
    with pytest.raises(FileError, match=r"no checkpoint of step 3; complete steps here: \[1, 2\]"):
        restore_small(tmp_path, 3)


def test_an_empty_or_absent_directory_has_no_steps(tmp_path):
    assert checkpoint.steps(tmp_path / "absent") == []
    assert checkpoint.latest(tmp_path) is None
    checkpoint.sweep_leftovers(tmp_path / "absent")
    with pytest.raises(FileError, match="no complete checkpoint"):
        restore_small(tmp_path)


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, 1, np.zeros(2))
    checkpoint.save(tmp_path, 1, np.ones(3))
    assert checkpoint.restore(tmp_path, np.zeros(3)).tolist() == [1, 1, 1]
    assert os.listdir(tmp_path / "checkpoints") == ["step_000000000001"]


def test_leftovers_confuse_nobody_and_are_swept(tmp_path):
    save_small(tmp_path, 1)
    folder = tmp_path / "checkpoints"
    whole = folder / "step_000000000001"
    shutil.copytree(whole, folder / "step_000000000002.saving-0123abcd")
    shutil.copytree(whole, folder / "step_000000000003.removed-0123abcd")
    shutil.copytree(whole, folder / "step_000000000001.replaced-0123abcd")
    (folder / "step_000000000004").mkdir()  # without a manifest it is none
    (folder / "mine").mkdir()
    assert checkpoint.steps(tmp_path) == [1]
    checkpoint.sweep_leftovers(tmp_path)
    assert sorted(os.listdir(folder)) == ["mine", "step_000000000001", "step_000000000004"]


def test_a_checkpoint_that_was_being_replaced_gets_its_name_back(tmp_path):
    whole = save_small(tmp_path, 1)
    os.rename(whole, whole.with_name("step_000000000001.replaced-0123abcd"))
    assert checkpoint.steps(tmp_path) == []
    checkpoint.sweep_leftovers(tmp_path)
    assert checkpoint.steps(tmp_path) == [1] and restore_small(tmp_path) == 1


def test_a_save_that_is_under_way_is_not_swept(tmp_path, monkeypatch):
    real, drafts = manifests.write, []

    def write(folder, manifest):
        checkpoint.sweep_leftovers(tmp_path)
        drafts.append(folder.exists())
        real(folder, manifest)

    monkeypatch.setattr(manifests, "write", write)
    save_small(tmp_path, 1)
    assert drafts == [True] and restore_small(tmp_path) == 1


def test_links_are_refused_wherever_a_name_comes_in(copy, template, tmp_path):
    folder = copy / "checkpoints"
    outside = tmp_path / "outside"
    shutil.move(folder / "step_000000000007", outside)
    (folder / "step_000000000007").symlink_to(outside)
    assert checkpoint.steps(copy) == []
    for action in (
        lambda: checkpoint.restore(copy, template, 7),
        lambda: checkpoint.save(copy, 7, {}),
    ):
        with pytest.raises(FileError, match="symbolic link"):
            action()
    (folder / "step_000000000007").unlink()
    shutil.move(outside, folder / "step_000000000007")
    victim = folder / "step_000000000007/state/_METADATA"
    shutil.move(victim, outside)
    victim.symlink_to(outside)
    with pytest.raises(FileError, match="_METADATA: is a link or a device"):
        checkpoint.restore(copy, template)
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="checkpoints: is a symbolic link"):
        checkpoint.steps(copy)


# --- disks and damage ---------------------------------------------------------------


def test_a_full_disk_is_a_file_error_and_earlier_checkpoints_stay(tmp_path):
    save_small(tmp_path, 1)
    noise = np.random.default_rng(0).integers(0, 256, 2**21, np.uint8)  # cannot be compressed
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(FileError, match="step_000000000002: cannot save step 2: ") as caught:
            checkpoint.save(tmp_path, 2, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the disk is full" in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "checkpoints") == ["step_000000000001"]
    assert restore_small(tmp_path) == 1
    save_small(tmp_path, 2)  # and once there is room it goes on
    assert checkpoint.steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("victim", [(os, "fsync"), (os, "rename"), (os, "replace")])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_save_that_fails_anywhere_leaves_what_was_there(tmp_path, monkeypatch, victim, earlier):
    if earlier:
        save_small(tmp_path, 1)
    before = checkpoint.steps(tmp_path)

    def fail(*_, **__):
        raise OSError(30, os.strerror(30))  # EROFS

    with monkeypatch.context() as patch:
        patch.setattr(*victim, fail)
        with pytest.raises(FileError):
            checkpoint.save(tmp_path, 1, {"x": np.full(2, 99)})
    assert checkpoint.steps(tmp_path) == before
    assert len(os.listdir(tmp_path / "checkpoints")) == len(before)
    assert not earlier or restore_small(tmp_path) == 1


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(30, os.strerror(30)), FileError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failed_exchange_gives_the_old_checkpoint_its_name_back(
    tmp_path, monkeypatch, failure, raised
):
    save_small(tmp_path, 1)
    real = os.rename

    def rename(source, target):
        if ".saving-" in str(source):
            raise failure
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(raised):
            checkpoint.save(tmp_path, 1, {"x": np.full(2, 99)})
    assert restore_small(tmp_path) == 1
    assert os.listdir(tmp_path / "checkpoints") == ["step_000000000001"]


def test_an_interrupted_save_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(manifests, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_small(tmp_path, 1)
    assert os.listdir(tmp_path / "checkpoints") == []


def test_a_run_directory_that_is_a_file_is_a_file_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileError, match="a part of the path is a file"):
        save_small(tmp_path / "run", 1)


def mutate(path, operation, rng, paths):
    data = bytearray(path.read_bytes())
    place = rng.randrange(max(1, len(data)))
    if operation == "flip" and data:
        data[place] ^= 1 << rng.randrange(8)
    elif operation == "cut":
        del data[place:]
    elif operation == "zero":
        data[place : place + 16] = bytes(len(data[place : place + 16]))
    elif operation == "splice":
        data[place:place] = rng.randbytes(5)
    elif operation == "remove":
        path.unlink()
        return
    elif operation == "swap":
        other = rng.choice(paths)
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
        return
    path.write_bytes(data)


def storm(folder, load, wanted, count, operations):
    """Damage a copy of the folder's files again and again: an error of ours or the original."""
    rng, refused = stdlib_random.Random(0), 0
    originals = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for i in range(count):
        target = list(originals)[i % len(originals)]
        operation = operations[i // len(originals) % len(operations)]
        mutate(target, operation, rng, list(originals))
        try:
            assert bits(load()) == wanted, (target, operation)
        except FileError as error:
            assert str(folder) in str(error) and "\n" not in str(error)
            refused += 1
        for path, content in originals.items():
            path.write_bytes(content)
    return refused


def test_damage_is_seen_or_harmless(copy, tree, template):
    def load():
        restored = checkpoint.restore(copy, template, 7)
        assert checkpoint.read_manifest(copy, 7)["metadata"] == {"score": 0.5, "who": ["me", 1]}
        return restored

    operations = ["flip", "cut", "zero", "splice", "swap", "flip", "remove", "swap"]
    refused = storm(copy, load, bits(tree), 120, operations)
    assert refused > 100  # the others changed nothing, such as a file swapped with itself


# --- killed processes ---------------------------------------------------------------

SAVING_PROCESS = """
import sys
import jax
import numpy as np
from mazejax import random
from mazejax.runners import checkpoint

directory = sys.argv[1]
# Imports and compiles what saving needs, so that kills fall into saves.
checkpoint.save(directory + "/warm", 0, jax.random.key_data(random.key(0)))
checkpoint.sweep_leftovers(directory)
step = (checkpoint.latest(directory) or 0) + 1
print("START", step, flush=True)
while True:
    tree = {"x": np.full(1000, step), "key": jax.random.key_data(random.key(step))}
    checkpoint.save(directory, step, tree, keep=4)
    print("ACK", step, flush=True)
    step += 1
"""


def last_whole_number(lines, word):
    """Number on the last whole line that begins with the word; -1 without one."""
    numbers = [line.split()[1] for line in lines if line.startswith(word) and line.endswith("\n")]
    return int(numbers[-1]) if numbers else -1


def test_no_acknowledged_checkpoint_is_lost_to_kill_9(tmp_path):
    script = tmp_path / "saving.py"
    script.write_text(SAVING_PROCESS)
    root = str(pathlib.Path(__file__).parents[2])
    rng, acknowledged, leftovers = stdlib_random.Random(0), 0, 0
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            stdout=subprocess.PIPE,
            bufsize=0,  # or lines after the first would be lost in a buffer of ours
            env={**os.environ, "PYTHONPATH": root},
        )
        # START is read before the clock is set, else every kill would fall into the imports.
        assert last_whole_number([child.stdout.readline().decode()], "START") > acknowledged
        time.sleep(rng.uniform(0.1, 1.2))
        child.send_signal(signal.SIGKILL)
        lines = child.communicate(timeout=30)[0].decode().splitlines(keepends=True)
        acknowledged = max(acknowledged, last_whole_number(lines, "ACK"))
        leftovers += len(list(tmp_path.glob("checkpoints/*.saving-*")))
        steps = checkpoint.steps(tmp_path)
        newest = max(steps, default=0)
        assert newest >= acknowledged  # and it may be complete but not yet acknowledged
        assert set(range(max(1, newest - 3), newest + 1)) <= set(steps)  # the four that are kept
        for step in steps:
            words = jax.random.key_data(random.key(step))
            template = {"x": np.zeros(1000, np.int64), "key": words}
            restored = checkpoint.restore(tmp_path, template, step)
            assert (restored["x"] == step).all() and (restored["key"] == words).all()
    assert acknowledged > 0 and leftovers > 0  # kills did fall into saves
    checkpoint.sweep_leftovers(tmp_path)
    assert len(os.listdir(tmp_path / "checkpoints")) == len(checkpoint.steps(tmp_path))


# --- arrays that travel -------------------------------------------------------------


@pytest.fixture
def policy():
    return {
        "params": {"dense_0": {"kernel": jnp.arange(6.0).reshape(3, 2).T, "bias": jnp.ones(3)}},
        "half": [jnp.array([1.5], jnp.bfloat16), jnp.zeros((0, 2), jnp.int8), jnp.array(True)],
    }


def test_arrays_travel_with_names_bits_and_metadata(tmp_path, policy):
    path = tmp_path / "policy.safetensors"
    checkpoint.save_arrays(path, policy, {"mean_return": 1.5})
    flat, metadata = checkpoint.load_arrays(path)
    assert metadata == {"mean_return": 1.5}
    assert list(flat) == [
        "half.0",
        "half.1",
        "half.2",
        "params.dense_0.bias",
        "params.dense_0.kernel",
    ]
    for array, leaf in zip(flat.values(), jax.tree.leaves(policy), strict=True):
        assert bits(jnp.asarray(array)) == bits(leaf)
    tree, metadata = checkpoint.load_arrays(path, jax.eval_shape(lambda: policy))
    assert bits(tree) == bits(policy) and metadata == {"mean_return": 1.5}
    assert os.listdir(tmp_path) == ["policy.safetensors"]


def test_a_travelling_file_is_readable_by_the_library_alone(tmp_path, policy):
    from safetensors.numpy import load_file

    del policy["half"]  # the library gives no bfloat16 to NumPy
    checkpoint.save_arrays(tmp_path / "p", policy)
    kernel = load_file(tmp_path / "p")["params.dense_0.kernel"]
    assert kernel.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_a_template_of_other_arrays_is_refused_by_name(tmp_path, policy):
    path = tmp_path / "policy.safetensors"
    checkpoint.save_arrays(path, policy)
    other = {**policy, "half": policy["half"][:2]}
    with pytest.raises(FileError, match=r"leaf half\.2: got one, the template has none"):
        checkpoint.load_arrays(path, other)
    other = {**policy, "half": [jnp.zeros(1), *policy["half"][1:]]}
    with pytest.raises(FileError, match=r"leaf half\.0: got dtype bfloat16, wanted float32"):
        checkpoint.load_arrays(path, other)


@pytest.mark.parametrize(
    "tree",
    [{"a.b": np.ones(1), "a": {"b": np.ones(1)}}, np.ones(1), {"k": random.key(0)}],
    ids=["ambiguous", "nameless", "key"],
)
def test_trees_without_distinct_names_or_with_keys_do_not_travel(tmp_path, tree):
    with pytest.raises(ConfigError, match="distinct dotted names and no keys"):
        checkpoint.save_arrays(tmp_path / "p", tree)
    assert not os.listdir(tmp_path)


def test_dtypes_that_the_format_lacks_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="int4"):
        checkpoint.save_arrays(tmp_path / "p", {"a": jnp.zeros(2, jnp.int4)})


def test_damage_to_a_travelling_file_is_seen_or_harmless(tmp_path, policy):
    path = tmp_path / "policy.safetensors"
    checkpoint.save_arrays(path, policy, {"mean_return": 1.5})

    def load():
        tree, metadata = checkpoint.load_arrays(path, policy)
        assert metadata == {"mean_return": 1.5}
        return tree

    refused = storm(tmp_path, load, bits(policy), 400, ["flip", "cut", "zero", "splice"])
    assert refused > 350


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 7,
        (2**60).to_bytes(8, "little"),
        b"\x80\x04K\x01.",  # a pickle
        *(len(h).to_bytes(8, "little") + h for h in (b"{}", b'{"__metadata__":null}', b"[]")),
    ],
)
def test_files_of_another_kind_are_file_errors(tmp_path, content):
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(FileError, match=r"/p: "):
        checkpoint.load_arrays(tmp_path / "p")
    with pytest.raises(FileError, match="does not exist"):
        checkpoint.load_arrays(tmp_path / "absent")
