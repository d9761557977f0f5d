"""Networks of Haiku."""

import inspect
from typing import Any

from cnnjax.network import pair
from cnnjax.network.base import Network, mode


def network(model: Any) -> Network:
    """What `haiku.transform`, `transform_with_state` or `without_apply_rng` gave."""
    import haiku  # pyright: ignore[reportMissingImports]

    takes_key = "rng" in inspect.signature(model.apply).parameters

    def init(key: Any, x: Any) -> Any:
        # As in training: in evaluation BatchNorm reads averages, which nothing has made yet.
        return model.init(key, x, **mode(model.init, True))

    def call(variables: tuple[Any, ...], x: Any, key: Any, train: bool) -> Any:
        keys = (key,) if takes_key else ()
        return model.apply(*variables, *keys, x, **mode(model.apply, train))

    if isinstance(model, haiku.Transformed):
        return pair.network(
            model, init, lambda params, x, key=None, train=False: call((params,), x, key, train)
        )

    def apply(params: Any, state: Any, x: Any, key: Any = None, train: bool = False) -> Any:
        return call((params, state), x, key, train)

    return pair.network(model, init, apply)
