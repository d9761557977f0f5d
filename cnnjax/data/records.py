"""Pictures with their labels, in any order of access: what a stream is made of."""

import dataclasses
import hashlib
from typing import Protocol

import numpy as np


class Records(Protocol):
    """Encoded pictures with their labels, in any order of access; workers get a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[bytes, int]: ...

    def name(self, index: int, /) -> str:
        """Where a picture is, for messages."""
        ...

    def digest(self) -> str:
        """What tells these pictures from others, without reading them."""
        ...


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of the pictures of `whole`."""

    whole: Records
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> tuple[bytes, int]:
        return self.whole[self.indices[index]]

    def name(self, index: int, /) -> str:
        """Where a picture is, for messages."""
        return self.whole.name(self.indices[index])

    def digest(self) -> str:
        """Of the whole and the places of these pictures in it."""
        return hashlib.sha256(f"{self.whole.digest()} {self.indices.tolist()}".encode()).hexdigest()
