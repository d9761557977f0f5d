"""Names to networks. A name with numbers in it is a pattern: `resnet{depth}` builds any valid depth."""

import dataclasses
import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

from flax import linen as nn

from cnnjax.errors import UserError, short
from cnnjax.models.checks import check_types


@dataclasses.dataclass(frozen=True)
class Entry:
    """A family of networks: how its names look, and what makes one from the numbers in a name."""

    template: str
    listed: tuple[str, ...]
    module: type[nn.Module]
    make: Callable[..., nn.Module]

    @property
    def reference(self) -> str:
        """The first line of the maker's docstring: the paper."""
        return (self.make.__doc__ or "").strip().splitlines()[0]

    def match(self, name: str) -> dict[str, int] | None:
        """The numbers in `name`, or None when it is not of this family."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(self.template))
        match = re.fullmatch(pattern, name)
        return match and {key: int(value) for key, value in match.groupdict().items()}


_ENTRIES: list[Entry] = []


def register(
    template: str, module: type[nn.Module], listed: Iterable[int | tuple[int, ...]] = ((),)
) -> Callable[[Callable], Callable]:
    """Register the decorated function as the maker of the networks named `template`, like `wrn{depth}_{k}`.

    `listed` are the papers' own, which `list_models` shows: the numbers in a name, in order. Any others build
    too if the maker accepts them.
    """

    def decorate(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        _ENTRIES.append(Entry(template, tuple(_name(template, numbers) for numbers in listed), module, make))
        return make

    return decorate


def _name(template: str, numbers: int | tuple[int, ...]) -> str:
    values = iter(numbers if isinstance(numbers, tuple) else (numbers,))
    return re.sub(r"{\w+}", lambda _: str(next(values)), template)


def build(name: str, **fields: Any) -> nn.Module:
    """Build the network `name`; keywords override fields of its module (`num_classes`, `width`, ...).

    The module is used by `model.init(key, images, train=False)` and
    `model.apply(variables, images, train=False)`, with images [batch, height, width, channel].

    Raises:
        UserError: the name, a field's name or its value is unknown.
    """
    entry, numbers = find(name)
    known = {field.name for field in dataclasses.fields(entry.module)} - {"parent", "name"}
    if unknown := sorted(set(fields) - known):
        near = difflib.get_close_matches(unknown[0], known, n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        there_are = ", ".join(sorted(known))
        raise UserError(f"{name} has no field {unknown[0]!r}: {hint}its fields are {there_are}")
    check_types(entry.module, fields)
    return entry.make(**{**numbers, **{key: _hashable(value) for key, value in fields.items()}})


def _hashable(value: Any) -> Any:
    """Tuples for lists: Flax wants hashable fields, and JSON has no tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def find(name: str) -> tuple[Entry, dict[str, int]]:
    """The entry that `name` belongs to and the numbers in the name; raises UserError when there is none."""
    if not isinstance(name, str):
        raise UserError(f"name={short(name)}: must be a network's name, such as 'resnet20'")
    for entry in _ENTRIES:
        if (numbers := entry.match(name)) is not None:
            return entry, numbers
    names = list_models()
    longer = [known for known in names if name and known.startswith(name)]
    near = list(dict.fromkeys([*longer, *difflib.get_close_matches(name, names, n=3, cutoff=0.5)]))[:3]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(f"unknown model {name!r}: {hint}`cnnjax models` lists them all")


def list_models(pattern: str = "*") -> list[str]:
    """The papers' networks whose names match the shell pattern, sorted with numbers as numbers."""
    if not isinstance(pattern, str):
        raise UserError(f"pattern={short(pattern)}: must be a pattern for names, such as 'resnet*'")
    names = [name for entry in _ENTRIES for name in entry.listed if fnmatch.fnmatchcase(name, pattern)]
    return sorted(
        names,
        key=lambda name: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)
        ],
    )
