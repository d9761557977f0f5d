import logging
import shutil
import subprocess

import jax
import numpy as np
import pytest

from cnnjax.config import CheckpointPolicy, Config
from cnnjax.errors import UserError
from cnnjax.training.checkpoint import Checkpoints, kept_steps, read_checkpoint
from cnnjax.training.run import open_run_dir
from cnnjax.training.step import State


@pytest.fixture
def state():
    draw = np.random.default_rng(0)
    return {"kernel": draw.normal(size=(3, 3, 64, 64)).astype(np.float32), "step": np.int32(7)}


@pytest.fixture
def folder(tmp_path, state):
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointPolicy())
    for step in (1, 2, 3):
        checkpoints.save(step, {**state, "step": np.int32(step)})
    checkpoints.wait()
    checkpoints.close()
    return tmp_path / "checkpoints"


def restore(folder, state):
    said = []
    checkpoints = Checkpoints(folder, CheckpointPolicy())
    found = checkpoints.restore(state, said.append)
    checkpoints.close()
    return found, said


def files(folder, step):
    return sorted(
        (path for path in (folder / str(step)).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def test_the_newest_is_restored_bit_for_bit(folder, state):
    found, said = restore(folder, state)
    restored = found.state
    assert (found.step, said) == (3, [])
    np.testing.assert_array_equal(restored["kernel"], state["kernel"], strict=True)
    assert restored["step"] == 3
    assert kept_steps(folder) == [2, 3]


def test_it_is_read_without_a_word_of_orbax(folder, state, caplog):
    with caplog.at_level(logging.WARNING, "absl"):
        found = read_checkpoint(folder, 3)
    np.testing.assert_array_equal(found["kernel"], state["kernel"])
    assert not caplog.records


def test_the_last_the_best_and_every_so_many_are_kept(tmp_path, state):
    """The best is the lowest test error of those evaluated; another start knows the errors of before."""
    keep = CheckpointPolicy(last=2, best=1, every=4)
    errors = {1: 0.9, 2: 0.1, 3: 0.5, 5: 0.05, 7: 0.3}
    kept = {3: [2, 3], 4: [2, 3, 4], 5: [4, 5], 9: [4, 5, 8, 9]}
    checkpoints = Checkpoints(tmp_path, keep)
    for step in range(1, 10):
        if step == 6:
            checkpoints.close()
            checkpoints = Checkpoints(tmp_path, keep)
        checkpoints.save(step, state, errors.get(step))
        checkpoints.wait()
        assert step not in kept or kept_steps(tmp_path) == kept[step]
    checkpoints.close()
    with pytest.raises(UserError, match=r"keep.last=0: must be a whole number, at least 1"):
        CheckpointPolicy(last=0)


def flip_a_byte(folder):
    path = files(folder, 3)[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(folder):
    path = files(folder, 3)[-1]
    path.write_bytes(path.read_bytes()[:100])


def delete_a_file(folder):
    files(folder, 3)[-1].unlink()


def empty(folder):
    shutil.rmtree(folder / "3")
    (folder / "3").mkdir()


def lose_the_seal(folder):
    (folder / "3" / "sha256.json").unlink()


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, delete_a_file, empty, lose_the_seal])
def test_a_damaged_one_is_passed_over_and_can_be_saved_again(folder, state, damage):
    damage(folder)
    left = {path.relative_to(folder / "3"): path.read_bytes() for path in files(folder, 3)}
    found, said = restore(folder, state)
    assert (found.step, int(found.state["step"])) == (2, 2)
    assert len(said) == 1
    assert "checkpoint 3" in said[0]
    aside = folder.with_name("checkpoints.damaged") / "3"
    assert {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()} == left
    checkpoints = Checkpoints(folder, CheckpointPolicy())
    checkpoints.save(3, state)
    checkpoints.wait()
    checkpoints.close()
    assert restore(folder, state)[0].step == 3


def test_a_bit_of_any_file_is_noticed_or_of_no_importance(folder, state, tmp_path):
    """Files that orbax writes after the seal say when and where; what they say is not needed."""
    unsealed = {"_CHECKPOINT_METADATA", "commit_success.txt"}
    for number, path in enumerate(files(folder, 3)):
        copy = shutil.copytree(folder, tmp_path / str(number) / "checkpoints")
        damaged = copy / path.relative_to(folder)
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        found, said = restore(copy, state)
        harmless = path.parent == folder / "3" and path.name in unsealed
        assert (found.step, len(said)) == ((3, 0) if harmless else (2, 1)), path


def test_an_older_one_that_orbax_stumbles_over_is_moved_too(tmp_path, state):
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointPolicy())
    for step in (1, 2):
        checkpoints.save(step, state, test_error=0.5)
        checkpoints.wait()
    checkpoints.close()
    (tmp_path / "checkpoints/1/metrics/metrics").write_text("garbage")
    found, said = restore(tmp_path / "checkpoints", state)
    assert found.step == 2
    assert len(said) == 1
    assert (tmp_path / "checkpoints.damaged/1/metrics/metrics").read_text() == "garbage"


def test_one_of_another_network_is_refused(folder):
    with pytest.raises(UserError, match="3 is a checkpoint of another network"):
        restore(folder, {"kernel": np.zeros((3, 3, 64, 32), np.float32)})


@pytest.mark.parametrize("saved", [None, {"kernel": np.float32([3, 4])}])
@pytest.mark.parametrize("asked", [None, {"kernel": np.float32([7, 8])}])
def test_gradients_of_the_step_before_may_be_missing_or_unwanted(tmp_path, saved, asked):
    """A run may go on with a probe that it did not have, or without one that it had."""

    def state(gradients):
        return State(np.int32(1), {"kernel": np.float32([1, 2])}, {}, (np.float32(5), None), gradients)

    def run():
        identity = {"config": Config().to_json(), "data": ""}
        return open_run_dir(
            Config(), identity, tmp_path, state(asked), sinks=(), keep=CheckpointPolicy(), say=print
        )

    with run() as first:
        first.save(1, state(saved))
        first.checkpoints.wait()
    with run() as second:
        zeros = {"kernel": np.float32([0, 0])}
        expected = state(None if asked is None else zeros if saved is None else saved)
        assert jax.tree.structure(second.state) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_array_equal, second.state, expected)


def test_nothing_to_restore(tmp_path, state):
    assert restore(tmp_path / "none", state) == (None, [])
    assert not (tmp_path / "none").exists()


def test_the_state_may_be_overwritten_right_after_save(tmp_path, state):
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy())
    array = jax.device_put(state["kernel"])
    overwrite = jax.jit(lambda x: x * 0, donate_argnums=0)
    checkpoints.save(1, {"kernel": array})
    overwrite(array).block_until_ready()
    checkpoints.wait()
    restored = checkpoints.restore({"kernel": state["kernel"]}, print)
    checkpoints.close()
    np.testing.assert_array_equal(restored.state["kernel"], state["kernel"])


def test_a_full_disk_is_one_line_and_costs_no_earlier_checkpoint(tmp_path, state):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        checkpoints = Checkpoints(disk / "checkpoints", CheckpointPolicy())
        checkpoints.save(1, state)
        checkpoints.wait()
        random = np.random.default_rng(1).integers(0, 255, 10**6, np.uint8)

        def fill():  # which of the two notices depends on how far the writing in the background is
            checkpoints.save(2, {**state, "more": random})
            checkpoints.wait()

        with pytest.raises(UserError, match="could not write a checkpoint") as error:
            fill()
        assert "\n" not in str(error.value)
        checkpoints.close()
        assert restore(disk / "checkpoints", state)[0].step == 1
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
