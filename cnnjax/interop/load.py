"""Load weights as others publish them: the file's content says whose they are."""

from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn

from cnnjax.errors import UserError
from cnnjax.interop import caffe, keras, timm, torchvision
from cnnjax.interop.family import Family, matching
from cnnjax.interop.files import read_weights
from cnnjax.interop.preprocessing import Preprocessing

FAMILIES: tuple[Family, ...] = (
    *torchvision.FAMILIES,
    *timm.FAMILIES,
    *keras.FAMILIES,
    *caffe.FAMILIES,
)


class Loaded(NamedTuple):
    """A network with published weights.

    Attributes:
        model: the network.
        variables: its weights, float32.
        preprocessing: how it takes images (`cnnjax.interop.preprocess`).
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocessing: Preprocessing


def load_weights(name: str, path: str | Path) -> Loaded:
    """Load the network `name` with weights from torchvision, timm, Keras or Caffe.

    Args:
        name: its name there, such as "resnet50", "seresnet50" or "resnet34.a1_in1k".
        path: a file, or a folder of timm's with `model.safetensors` and `config.json`.

    Raises:
        UserError: there is no such network, the weights are not its own, or a file is damaged.
    """
    plain = timm.plain_name(name.removesuffix("_torchvision"))
    families = matching(FAMILIES, plain)
    if not families:
        raise UserError(f"{name}: no weights that others publish are known for a network of this name")
    path = Path(path).expanduser()
    file = timm.weights_in_folder(path) if path.is_dir() else path
    weights = read_weights(file)
    family = next((one for one in families if one.fits(weights)), families[0])
    config = timm.read_config(file)
    if config is not None:
        timm.check_config(plain, config, file.with_name(timm.CONFIG))
    model, variables = family.load(plain, weights)
    if config is None:
        return Loaded(model, variables, family.preprocessing)
    return Loaded(model, variables, timm.preprocessing_in(config, file.with_name(timm.CONFIG)))
