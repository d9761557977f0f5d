"""Networks of Haiku."""

from typing import Any

from cnnjax.network import pair
from cnnjax.network.base import Network


def network(model: Any) -> Network:
    """What `haiku.transform` or `haiku.transform_with_state` gave."""
    import haiku  # pyright: ignore[reportMissingImports]

    if isinstance(model, haiku.Transformed):
        return pair.network(model, model.init, lambda params, x, key=None: model.apply(params, key, x))

    def apply(params: Any, state: Any, x: Any, key: Any = None) -> Any:
        return model.apply(params, state, key, x)

    return pair.network(model, model.init, apply)
