"""timm's networks against ours, in float64. Needs the extra `parity`; `-n 0 -s` prints the errors."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.interop import load_weights
from tests.interop.double import logits64
from tests.reference.make_timm_reference import timm_model
from tests.reference.make_torchvision_reference import draw_images

torch = pytest.importorskip("torch", reason="needs the extra parity")
pytest.importorskip("timm", reason="needs the extra parity")

pytestmark = pytest.mark.parity

SIDES = {
    "resnet18.a1_in1k": 64,
    "resnet34.a1_in1k": 64,
    "resnet50.a1_in1k": 64,
    "seresnet50.a1_in1k": 64,
    "seresnext50_32x4d.racm_in1k": 64,
    "resnext50_32x4d.a1_in1k": 64,
    "wide_resnet50_2.tv_in1k": 64,
    "vgg11.tv_in1k": 224,
    "vgg16_bn.tv_in1k": 224,
    "densenet121.ra_in1k": 64,
    "inception_v3.tv_in1k": 96,
}
"""Names with their tags, and the side of the images."""


@pytest.mark.parametrize("name", SIDES)
def test_logits(name, tmp_path):
    torch.set_num_threads(1)
    theirs, weights = timm_model(name)
    save_file(weights, tmp_path / "model.safetensors")
    model, variables, _ = load_weights(name, tmp_path)
    images = draw_images(SIDES[name])
    with torch.no_grad():
        expected = theirs.double()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double()).numpy()
    error = np.abs(logits64(model, variables, images) - expected).max() / np.abs(expected).max()
    print(f"{name}: logits {error:.1e}")
    assert error < 1e-10
