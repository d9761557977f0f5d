"""Users' objects: found by `package.module:Name` or `path/file.py:Name`, and recognised by fingerprints.

A run must continue with the same objects. An object has no name, but what it computes can be traced: its
fingerprint is a digest of that trace, constants included, which another process can compute again.
"""

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.errors import UserError

_ADDRESS = re.compile(r"(?: at)? 0x[0-9a-f]+")


def is_object(name: str) -> bool:
    """Whether a name is that of an object in a file or module, such as `path/net.py:Net`."""
    return ":" in name


def load_object(name: str) -> Any:
    """Load what `package.module:Name` or `path/file.py:Name` names.

    Raises:
        UserError: there is no such file, module or name, or it can't be imported.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise UserError(f"{name!r}: must be package.module:Name or path/file.py:Name")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    except UserError:
        raise
    except Exception as error:  # the user's file may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: {place} can't be imported ({type(error).__name__}: {reason})") from error
    try:
        found = module
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        there = [one for one in vars(module) if not one.startswith("_")]
        raise UserError(f"{name}: {place} has no {attribute!r}; it has {', '.join(there[:8])}") from None
    return found


def _from_file(path: Path) -> Any:
    path = path.expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    name = f"cnnjax_user_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None, "it ends in .py"
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent.resolve()))  # for its neighbours
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.path.pop(0)
    return sys.modules[name]


def _from_path(name: str) -> Any:
    """Import a module; the working folder counts, as for `python -m`."""
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def fingerprint(function: Callable[..., Any], *arguments: Any) -> str:
    """A digest of what `function` computes from arrays, or shapes, such as `arguments`.

    Two functions of the same operations and constants have the same fingerprint, in any process with the same
    version of jax on the same kind of device.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    digest = hashlib.sha256(_ADDRESS.sub("", str(traced.jaxpr)).encode())
    for constant in traced.consts:
        array = np.asarray(constant) if not _is_key(constant) else np.asarray(jax.random.key_data(constant))
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def describe(value: Any) -> str:
    """Describe an object in one line, for the record of a run and for messages."""
    if hasattr(value, "__qualname__"):
        text = f"{value.__module__}:{value.__qualname__}"
    elif type(value) is tuple and value:
        text = " and ".join(map(describe, value))
    else:
        text, shown = f"{type(value).__module__}:{type(value).__qualname__}", " ".join(repr(value).split())
        if not shown.startswith("<"):  # which names this one object, and would name its equal otherwise
            text = f"{text} {shown}"
    text = _ADDRESS.sub("", text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
