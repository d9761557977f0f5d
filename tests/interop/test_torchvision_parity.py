"""Torchvision's networks against ours: logits and round trip of all, gradients of one of each kind.

Needs the extra `parity`; `-n 0 -s` prints the errors, `-k` chooses networks.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax.interop import from_torchvision, to_torchvision
from tests.reference.make_torchvision_reference import CLASSES, NAMES, draw_images, torch_model

torch = pytest.importorskip("torch", reason="needs the extra parity")
pytest.importorskip("torchvision", reason="needs the extra parity")

pytestmark = pytest.mark.parity

SIDES = {"alexnet": 224, "vgg": 224, "inception": 299}  # other networks take small images too
GRADIENTS = {
    "alexnet": 63,
    "vgg11": 224,
    "vgg11_bn": 224,
    "googlenet": 64,
    "inception_v3": 299,
    "resnet18": 64,
    "resnet50": 64,
    "wide_resnet50_2": 64,
    "resnext50_32x4d": 64,
    "densenet121": 64,
}
"""The smallest network of each family and kind of block, and the side of its images."""
AUXILIARY_WEIGHT = 0.3
LABELS = (3, 7)


def side(name):
    return next((value for family, value in SIDES.items() if name.startswith(family)), 64)


@pytest.fixture(scope="module")
def pair(request):
    """Torchvision's network and ours, with the same weights."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's, on initial weights
        theirs, weights = torch_model(request.param)
    return request.param, theirs, weights, *from_torchvision(request.param, weights)


@pytest.mark.parametrize("pair", NAMES, indirect=True)
def test_logits_and_round_trip(pair):
    name, theirs, weights, model, variables = pair
    images = draw_images(side(name))
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    error = relative_error(logits, expected)
    print(f"{name}: logits {error:.1e}")
    assert error < 1e-4
    back = to_torchvision(name, variables)
    assert model.num_classes == CLASSES
    assert all(value.dtype == jnp.float32 for value in flatten_dict(variables).values())
    assert set(back) == set(weights)
    for key, value in weights.items():
        assert back[key].dtype == value.dtype
        np.testing.assert_array_equal(back[key], value, err_msg=key)


@pytest.mark.parametrize("pair", GRADIENTS, indirect=True)
def test_gradients_in_training(pair):
    """Of the cross-entropy, auxiliary heads included, without dropout.

    In float64: in float32 a ReLU whose input is almost zero can open for one of the two and not for the
    other, which alone changes a gradient by percents, PyTorch's own against its float64 too.
    """
    name, theirs, _, model, variables = pair
    images = draw_images(GRADIENTS[name]).astype(np.float64)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    outputs = theirs.double().train()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    outputs = [outputs] if torch.is_tensor(outputs) else list(outputs)
    losses = [torch.nn.functional.cross_entropy(output, torch.tensor(LABELS)) for output in outputs]
    (losses[0] + AUXILIARY_WEIGHT * sum(losses[1:])).backward()

    off = {field: 0.0 for field in ("dropout", "auxiliary_dropout") if hasattr(model, field)}
    with jax.enable_x64(True):
        model = model.clone(dtype=jnp.float64, convolution="native", **off)
        doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)

        def loss(params):
            logits, new = model.apply(
                {**doubles, "params": params},
                images,
                train=True,
                mutable=["batch_stats", "auxiliary"],
                rngs={"dropout": jax.random.key(0)},
            )
            heads = jax.tree.leaves(new.get("auxiliary", {}))
            losses = [
                -jax.nn.log_softmax(x)[jnp.arange(2), jnp.array(LABELS)].mean() for x in (logits, *heads)
            ]
            return losses[0] + AUXILIARY_WEIGHT * sum(losses[1:]), len(heads)

        gradients, heads = jax.jit(jax.grad(loss, has_aux=True))(doubles["params"])
        assert int(heads) == len(outputs) - 1
    ours = to_torchvision(name, {**variables, "params": gradients})
    expected = {key: value.grad.numpy() for key, value in theirs.named_parameters()}
    scale = max(np.abs(value).max() for value in expected.values())
    errors = {
        # What should be zero, such as the gradient of a bias before BatchNorm, has no scale of its own.
        key: np.abs(ours[key] - value).max() / max(np.abs(value).max(), 1e-6 * scale)
        for key, value in expected.items()
    }
    worst = max(errors, key=errors.__getitem__)
    print(f"{name}: gradients {errors[worst]:.1e} ({worst})")
    assert errors[worst] < 1e-3


def relative_error(value, expected):
    return np.abs(np.asarray(value) - expected).max() / np.abs(expected).max()
