"""Writes keras_reference.npz: names, shapes and logits of Keras Applications, for tests that build none.

Run with Keras and torch installed: `KERAS_BACKEND=torch python -m tests.reference.make_keras_reference`.
Images are drawn as for torchvision's reference, and weights too, except that biases and means are multiples
of 1/1024, so that a bias is folded into a mean without rounding.
The stored file was made with Keras 3.15.1 on torch 2.13.0 on a CPU, in float64, except that Keras's BatchNorm
computes in float32 all the same.
"""

import json
from pathlib import Path

import numpy as np

from tests.reference.make_torchvision_reference import CLASSES, draw_images, draw_weights

FILE = Path(__file__).with_name("keras_reference.npz")
SIDES = {"resnet50": 64, "densenet121": 64, "vgg16": 224}
"""Networks, and the side of their images; only the first two have stored logits."""
CLASSES_OF = {
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "densenet121": "DenseNet121",
    "densenet169": "DenseNet169",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
}
SUFFIXES = {0: ".weight", 3: ".running_var"}  # which `draw_weights` makes positive


def draw_keras_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays of these shapes by layer and number."""
    found = {}
    for name, shape in shapes.items():
        drawn = name + SUFFIXES.get(int(name.rpartition("/")[2]), "")
        value = draw_weights({drawn: shape[::-1]})[drawn].T
        found[name] = value if value.ndim > 1 else np.round(value * 1024) / 1024
    return found


def keras_model(name: str, side: int):
    """Keras's network without softmax, with random weights, and these by layer and number."""
    import keras

    kind = getattr(keras.applications, CLASSES_OF[name])
    fields = {"classes": CLASSES, "classifier_activation": None, "input_shape": (side, side, 3)}
    model = kind(weights=None, **fields)
    arrays = {f"{layer.name}/{i}": one for layer in model.layers for i, one in enumerate(layer.weights)}
    weights = draw_keras_weights({key: tuple(one.shape) for key, one in arrays.items()})
    for key, one in arrays.items():
        one.assign(weights[key])
    return model, weights


def main() -> None:
    """Compute everything with Keras and write the file."""
    import keras

    keras.config.set_dtype_policy("float64")
    out = {}
    for name, side in SIDES.items():
        model, weights = keras_model(name, side)
        out[f"shapes/{name}"] = np.array(json.dumps({key: value.shape for key, value in weights.items()}))
        if name != "vgg16":
            images = draw_images(side).astype(np.float64)
            out[f"logits/{name}"] = keras.ops.convert_to_numpy(model(images, training=False))
    np.savez_compressed(FILE, **out)


if __name__ == "__main__":
    main()
