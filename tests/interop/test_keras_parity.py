"""Keras Applications against ours, in float64, but that Keras's BatchNorm computes in float32 all the same.

Needs Keras and h5py; `-n 0 -s` prints the errors, `KERAS_BACKEND=torch` takes PyTorch instead of JAX.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np
import pytest

from cnnjax.interop import load_weights
from tests.interop.double import logits64
from tests.reference.make_keras_reference import keras_model
from tests.reference.make_torchvision_reference import draw_images

keras = pytest.importorskip("keras", reason="needs the extra test")
pytest.importorskip("h5py", reason="needs the extra keras")

pytestmark = pytest.mark.parity

SIDES = {"resnet50": 64, "resnet101": 64, "densenet121": 64, "densenet169": 64, "vgg16": 224, "vgg19": 224}
BGR = ("resnet50", "resnet101", "vgg16", "vgg19")
FORMS = {"resnet50": "net.keras", "densenet121": "net.h5"}


@pytest.mark.parametrize("name", SIDES)
def test_logits(name, tmp_path):
    images = draw_images(SIDES[name])
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        with jax.enable_x64(True):
            theirs, _ = keras_model(name, SIDES[name])
            expected = keras.ops.convert_to_numpy(theirs(images.astype(np.float64), training=False))
            file = tmp_path / FORMS.get(name, "net.weights.h5")
            (theirs.save_weights if "weights" in file.name else theirs.save)(file)
    finally:
        keras.config.set_dtype_policy(policy)
    model, variables, _ = load_weights(name, file)
    logits = logits64(model, variables, images[..., ::-1] if name in BGR else images)
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{name}: logits {error:.1e}")
    assert error < (1e-10 if name.startswith("vgg") else 1e-5)
