"""The examples run as they stand; fine-tuning on pictures and weights that are made here."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import cnnjax

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "fine_tune")


def run(folder, *words):
    environment = {**os.environ, "PJRT_NPROC": "32"}  # threads for virtual devices
    done = subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs(tmp_path, script):
    assert run(tmp_path, EXAMPLES / f"{script}.py").strip()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """200 pictures of three classes, each with its own colour, and weights of ResNet-18 as torchvision's."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(200):
        kind, split = number % 3, "train" if number < 170 else "val"
        pixels = draw.integers(0, 128, (48, 48, 3), np.uint8)
        pixels[..., kind] += 100
        path = root / split / "abc"[kind] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    model = cnnjax.build("resnet18_torchvision")
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    variables = model.lazy_init(jax.random.key(0), images, train=False)
    weights = {
        name: np.ascontiguousarray(array)
        for name, array in cnnjax.interop.to_torchvision("resnet18", variables).items()
    }
    save_file(weights, root / "resnet18.safetensors")
    return root


@pytest.mark.slow
def test_fine_tuning_is_one_command_that_goes_on(tmp_path, pictures):
    words = [
        "-m", "cnnjax", "train", "--model", "resnet18_torchvision", "--data", str(pictures),
        "--initial", str(pictures / "resnet18.safetensors"), "--augment", "area_crop_flip",
        "--freeze", "conv1/*", "bn1/*", "stage[123]*", "--normalize", "channel", "--learning-rate", "0.01",
        "--schedule", "constant", "--batch-size", "4", "--evaluate-every", "4", "--checkpoint-every", "2",
        "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    run(tmp_path, *words, "--steps", "2")
    run(tmp_path, *words, "--steps", "4")
    found = cnnjax.open_run(tmp_path / "run")
    start = cnnjax.interop.from_torchvision("resnet18", pictures / "resnet18.safetensors")[1]["params"]
    params = found.variables["params"]
    assert params["classifier"]["kernel"].shape == (512, 3)
    np.testing.assert_array_equal(params["conv1"]["kernel"], start["conv1"]["kernel"])
    moved = params["stage4_block02"]["conv2"]["kernel"] - start["stage4_block02"]["conv2"]["kernel"]
    assert np.abs(moved).max() > 0
    run(tmp_path, "-m", "cnnjax", "predict", "run", str(pictures / "val/a/171.png"))
