"""Sinks by name, for command lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnjax.errors import UserError, short
from cnnjax.objects import is_object, load_object
from cnnjax.sinks.backend import Backend, LoggingBackend
from cnnjax.sinks.mlflow import MLflow
from cnnjax.sinks.sink import Sink
from cnnjax.sinks.tensorboard import TensorBoard
from cnnjax.sinks.trackio import Trackio
from cnnjax.sinks.wandb import WandB

SINKS: Mapping[str, Callable[[], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def make_sinks(given: Any) -> tuple[Sink, ...]:
    """Sinks from one or a list of objects or names, of ours or such as `path/sink.py:Mine`.

    Raises:
        UserError: one is no sink, a name is given twice, or its library is not installed.
    """
    listed = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    names = [one for one in listed if isinstance(one, str)]
    if len(set(names)) < len(names):
        raise UserError(f"sinks: {max(names, key=names.count)} is given twice")
    return tuple(map(_sink, listed))


def _sink(given: Any) -> Sink:
    if isinstance(given, str):
        if is_object(given):
            found: Any = load_object(given)
            return _sink(found() if isinstance(found, type) else found)
        if given not in SINKS:
            raise UserError(
                f"sinks={given!r}: must be of {', '.join(SINKS)}, or your own such as path/sink.py:Mine"
            )
        return SINKS[given]()
    if isinstance(given, type):
        raise UserError(f"sinks={given.__name__} is a class: give an instance, {given.__name__}()")
    if isinstance(given, Sink):
        return given
    if isinstance(given, LoggingBackend):
        return Backend(given)
    raise UserError(
        f"sinks={short(given)}: must be a cnnjax.sinks.Sink, or have log_scalar and close as metrax has them"
    )
