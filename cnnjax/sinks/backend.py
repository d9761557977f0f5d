"""Whatever speaks metrax's logging protocol (`metrax.logging.LoggingBackend`)."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from cnnjax.sinks.sink import Sink


@runtime_checkable
class LoggingBackend(Protocol):
    """The protocol, as metrax and Tunix have it."""

    def log_scalar(self, event: str, value: Any, **kwargs: Any) -> Any:
        """Log a scalar; `step` is among the keywords."""
        ...

    def close(self) -> Any:
        """Log what is left."""
        ...


class Backend(Sink):
    """Hands scalars to an object with that protocol, which can be that of one run only.

    Steps that a run repeats after a kill are logged again: the protocol has no word for it.
    """

    def __init__(self, backend: LoggingBackend):
        self._backend = backend

    @property
    def name(self) -> str:
        """That of the object's class."""
        return type(self._backend).__name__

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log scalars."""
        for name, value in metrics.items():
            self._backend.log_scalar(name, value, step=step)

    def close(self) -> None:
        """Close it."""
        self._backend.close()
