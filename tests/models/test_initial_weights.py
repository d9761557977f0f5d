"""Initial weights against their formulas, of the nets whose own file of tests does not say it."""

import math

import numpy as np
import pytest

from cnnjax.models import build
from tests.gradients import initial


def fan_in(shape):
    return math.sqrt(2 / math.prod(shape[:-1]))


def fan_out(shape):
    return math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])) if len(shape) == 4 else fan_in(shape)


def glorot(shape):
    return math.sqrt(2 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))


def xavier(shape):
    return math.sqrt(1 / math.prod(shape[:-1]))


@pytest.mark.parametrize(
    ("name", "fields", "std"),
    [
        ("wrn10_2", {"width": 8}, fan_in),
        ("preresnet8", {"width": 16}, fan_out),
        ("se_resnet8", {"width": 16, "reduction": 4}, fan_out),
        ("skipinit_resnet8", {"width": 16}, fan_out),
        ("resnet8_stochastic_depth", {"width": 16}, fan_in),
        ("lenet5_modern", {}, glorot),
        ("lenet_caffe", {"width": 8}, xavier),
        ("fractalnet10", {"width": 8}, xavier),
        ("vgg11", {"width": 2, "head": "cifar", "kernel_init": "glorot"}, glorot),
    ],
)
def test_standard_deviations(name, fields, std):
    """Within four standard errors of a normal, as are means; what is no kernel is a constant."""
    model = build(name, **fields)
    constants = {"bias": {0.0}, "scale": {0.0} if "skipinit" in name else {1.0}}
    for path, value in initial(model, model.input_shape).items():
        if not path.endswith("kernel"):
            assert set(np.unique(value)) == constants[path.split("/")[-1]], path
            continue
        assert abs(value.std() / std(value.shape) - 1) < 4 / math.sqrt(2 * value.size), path
        assert abs(value.mean() / value.std()) < 4 / math.sqrt(value.size), path


def test_looks_linear_kernels_are_mirrored_and_orthogonal():
    model = build("looks_linear6", width=4)
    for path, value in initial(model, (8, 8, 3)).items():
        if path.endswith("bias"):
            assert not value.any(), path
            continue
        matrix = value if value.ndim == 2 else value[1, 1]
        assert np.count_nonzero(value) == np.count_nonzero(matrix), path
        if path != "conv1/kernel":
            matrix, mirrored = np.split(matrix, 2)
            np.testing.assert_array_equal(matrix, -mirrored, err_msg=path)
        gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5, err_msg=path)
