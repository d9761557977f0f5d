"""Names to networks. A name with numbers in it is a pattern: `resnet{depth}` builds any valid depth."""

import dataclasses
import difflib
import fnmatch
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flax import linen as nn

from cnnjax.errors import UserError, short
from cnnjax.models.checks import check_types


@dataclasses.dataclass(frozen=True)
class Entry:
    """A family of networks: the pattern of its names, and the function that makes its networks."""

    template: str
    listed: tuple[str, ...]
    module: type[nn.Module]
    make: Callable[..., nn.Module]

    @property
    def reference(self) -> str:
        """The first line of the maker's docstring, the paper; without one, where the module is defined."""
        lines = (inspect.getdoc(self.make) or "").splitlines()
        return lines[0] if lines else f"{self.module.__module__}.{self.module.__qualname__}"

    @functools.cached_property
    def fields(self) -> frozenset[str]:
        """The fields of the module that `build` takes."""
        return frozenset(field.name for field in dataclasses.fields(self.module)) - {"parent", "name"}

    def match(self, name: str) -> dict[str, int] | None:
        """The numbers in `name`, or None when it is not of this family."""
        match = self._pattern.fullmatch(name)
        return match and {key: int(value) for key, value in match.groupdict().items()}

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(self.template)))


_ENTRIES: list[Entry] = []
Maker = TypeVar("Maker", bound=Callable[..., nn.Module])


def register(
    template: str, module: type[nn.Module], listed: Iterable[int | tuple[int, ...]] | None = None
) -> Callable[[Maker], Maker]:
    """Register the decorated function as the maker of the network called `template`.

    From then on the name works wherever the papers' names do, as in `cnnjax.build("mynet", num_classes=100)`
    and `cnnjax.Config(model="mynet")`. `cnnjax models` lists it with the first line of the function's
    docstring::

        @cnnjax.register("mynet", MyNet)
        def mynet(**fields):
            return MyNet(**{"width": 32, **fields})

    Args:
        template: the name, or a pattern of names with numbers in them, such as "wrn{depth}_{k}"; the function
            takes the numbers as arguments.
        module: the class of what the function returns. `build` takes its fields.
        listed: the numbers in the names that `list_models` shows, such as ((28, 10), (40, 4)). Other numbers
            also build if the function accepts them. A name without numbers is always listed.

    Raises:
        UserError: the name is taken, or the function does not accept the module's fields.
    """
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise UserError(f"register {template!r}: {module!r} is not a class of flax.linen modules")
    if listed is None:
        listed = () if "{" in template else ((),)
    names = tuple(_name(template, numbers) for numbers in listed)

    def decorate(make: Maker) -> Maker:
        entry = Entry(template, names, module, make)
        _check_name(entry)
        _check_maker(entry)
        _ENTRIES.append(entry)
        return make

    return decorate


def _name(template: str, numbers: int | tuple[int, ...]) -> str:
    values = iter(numbers if isinstance(numbers, tuple) else (numbers,))
    return re.sub(r"{\w+}", lambda _: str(next(values)), template)


def _check_name(entry: Entry) -> None:
    """Raise UserError if the name cannot be one, or if `find` would find another network under it."""
    if not re.fullmatch(r"[\w.-]+", example := _example(entry)):
        raise UserError(f"register {entry.template!r}: a name has letters, digits, '_', '-' and '.' only")
    for other in _ENTRIES:
        if other.match(example) is not None or entry.match(_example(other)) is not None:
            raise UserError(f"register {entry.template!r}: the name is taken, by {other.template!r}")


def _example(entry: Entry) -> str:
    """A name that matches the pattern."""
    return re.sub(r"{\w+}", "1", entry.template)


def _check_maker(entry: Entry) -> None:
    """Raise UserError unless the maker takes the numbers in the name and all fields by keyword."""
    numbers = re.findall(r"{(\w+)}", entry.template)
    try:
        inspect.signature(entry.make).bind(**dict.fromkeys([*numbers, *entry.fields]))
    except TypeError as error:
        arguments = ", ".join([*numbers, "**fields"])
        raise UserError(
            f"register {entry.template!r}: the function must be like def make({arguments}), but {error}"
        ) from error


def build(name: str, **fields: Any) -> nn.Module:
    """Build the network `name`; keywords override fields of its module (`num_classes`, `width`, ...).

    Use it by `model.init(key, images, train=False)` and `model.apply(variables, images, train=False)`, with
    images [batch, height, width, channel].

    Raises:
        UserError: the name, a field's name or its value is unknown.
    """
    entry, numbers = find(name)
    if unknown := sorted(set(fields) - entry.fields):
        near = difflib.get_close_matches(unknown[0], entry.fields, n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        known = ", ".join(sorted(entry.fields)) or "none"
        raise UserError(f"{name} has no field {unknown[0]!r}: {hint}its fields are {known}")
    check_types(entry.module, fields)
    model = entry.make(**{**numbers, **{key: _hashable(value) for key, value in fields.items()}})
    if not isinstance(model, entry.module):
        raise UserError(f"{name}: its function returned {model!r}, not a {entry.module.__name__}")
    return model


def _hashable(value: Any) -> Any:
    """Turn lists into tuples: Flax needs hashable fields, and JSON has no tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def find(name: str) -> tuple[Entry, dict[str, int]]:
    """Find the entry that `name` belongs to and the numbers in it; raises UserError if there is none."""
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
    """List the networks whose names match the shell pattern, the papers' and those that a user registered.

    Numbers in the names sort as numbers.
    """
    if not isinstance(pattern, str):
        raise UserError(f"pattern={short(pattern)}: must be a pattern for names, such as 'resnet*'")
    names = [name for entry in _ENTRIES for name in entry.listed if fnmatch.fnmatchcase(name, pattern)]
    return sorted(
        names,
        key=lambda name: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)
        ],
    )
