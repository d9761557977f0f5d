"""What the sources of weights share: families of networks whose arrays are named and laid out alike."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.errors import UserError
from cnnjax.interop.preprocessing import IMAGENET, Preprocessing
from cnnjax.models import build

_LISTED = 10  # names in a message


class Array(Protocol):
    """One of our arrays, and its place in a source's network."""

    @property
    def path(self) -> tuple[str, ...]:
        """Ours, such as ("params", "conv1", "kernel")."""
        ...

    @property
    def name(self) -> str:
        """The source's."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's."""
        ...

    def ours(self, value: np.ndarray) -> np.ndarray:
        """Return the array in our layout."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Networks of one source whose layers are named in the same way.

    Attributes:
        names: pattern that matches the source's names of the networks.
        ours: our name, with theirs in place of `{}`.
        bias: the source's name of the classifier's bias.
        preprocessing: how the source prepares images.
    """

    names: str
    ours: str = "{}"
    bias: str
    preprocessing: Preprocessing = IMAGENET

    def fits(self, weights: Mapping[str, Any]) -> bool:
        """Return whether the classifier has this family's name in the weights."""
        return self.bias in weights

    def prepare(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Return the weights under the names, and in the shapes, that `arrays` expects."""
        return dict(weights)

    def fields(self, weights: Mapping[str, Any], bias: str = "") -> dict[str, Any]:
        """Return the fields of our network that these weights decide, whose classifier's is `bias`."""
        bias = bias or self.bias
        return {"num_classes": weights[bias].shape[0]} if bias in weights else {}

    def arrays(self, model: Any) -> Sequence[Array]:
        """Return the places of the network's arrays."""
        raise NotImplementedError

    def ignored(self, arrays: Iterable[Any]) -> set[str]:
        """Return the names that may be there besides the arrays', and that no network uses."""
        return set()

    def load(self, name: str, weights: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
        """Return the network called `name` that the weights fit, and these as its variables, float32.

        Raises:
            UserError: an array is missing, unexpected, or has another shape.
        """
        weights = self.prepare(weights)
        model = build(self.ours.format(name), **self.fields(weights))
        arrays = self.arrays(model)
        ignored = self.ignored(arrays)
        shapes = {key: tuple(value.shape) for key, value in weights.items() if key not in ignored}
        check(name, shapes, {array.name: array.shape for array in arrays})
        values = {array.path: array.ours(as_numpy(weights[array.name])) for array in arrays}
        return model, unflatten_dict({path: jnp.asarray(value) for path, value in values.items()})


FamilyType = TypeVar("FamilyType", bound=Family)


def matching(families: Iterable[FamilyType], name: str) -> list[FamilyType]:
    """Return those of the families that have a network of this name."""
    return [family for family in families if re.fullmatch(family.names, name)]


def shapes_of(model: Any) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the shapes of a network's parameters and running averages, by path."""
    images = jnp.zeros((1, *model.input_shape))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    leaves: dict[Any, Any] = dict(flatten_dict(variables))
    return {path: leaf.shape for path, leaf in leaves.items() if path[0] in ("params", "batch_stats")}


def check(name: str, given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UserError, with a list of what differs, unless names and shapes are those that are expected."""
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    shapes = [
        f"{key} {given[key]} for {shape}"
        for key, shape in expected.items()
        if key in given and given[key] != shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shapes": shapes}
    if any(problems.values()):
        text = "; ".join(f"{kind}: {_listed(keys)}" for kind, keys in problems.items() if keys)
        raise UserError(f"these are no weights of {name}: {text}")


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:_LISTED]) + (f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else "")


def as_numpy(value: Any) -> np.ndarray:
    """Return an array or a tensor of PyTorch's, perhaps on another device, as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, np.float32)
