"""Check the arguments of `train` and `evaluate` before anything is loaded or written."""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import jax
from jax.sharding import Mesh

from cnnjax.config import CheckpointPolicy, Config
from cnnjax.errors import UserError, short
from cnnjax.ops.depth import unstack
from cnnjax.sinks.backend import Backend
from cnnjax.training.callbacks import Callback
from cnnjax.training.session import Session


def check_arguments(configs: Any, outs: Any, session: Session) -> None:
    """Raise UserError unless the arguments of `train_many` are of the types that it takes."""
    for name, given, of in (("configs", configs, "Config"), ("outs", outs, "paths")):
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise UserError(f"{name}={short(given)}: must be a list of {of}, one for each run")
    for config in configs:
        check_config(config)
    for out in outs:
        if not isinstance(out, str | os.PathLike) or not os.fspath(out):
            raise UserError(f"out={short(out)}: must be the path of a folder, such as 'runs/resnet20'")
    if not 0 < len(configs) == len(outs):
        raise UserError(f"{len(configs)} configs and {len(outs)} folders: there must be one for each")
    if len({os.path.abspath(out) for out in outs}) < len(outs):
        raise UserError("two runs have the same folder: give each its own")
    if len(configs) > 1 and (own := [sink for sink in session.sinks if isinstance(sink, Backend)]):
        raise UserError(f"sinks: a {own[0].name} is that of one run; give several runs a cnnjax.sinks.Sink")
    check_mesh(session.mesh)
    for name, least in (("steps_per_dispatch", 1), ("resume", 0)):
        number = getattr(session, name)
        if number is not None and (not isinstance(number, Integral) or int(number) < least):
            raise UserError(f"{name}={short(number)}: must be a whole number, at least {least}")
    if not isinstance(session.keep, CheckpointPolicy):
        raise UserError(
            f"keep={short(session.keep)}: must be a cnnjax.CheckpointPolicy, such as "
            "cnnjax.CheckpointPolicy(best=1)"
        )
    if not (
        isinstance(session.callbacks, Sequence) and all(isinstance(c, Callback) for c in session.callbacks)
    ):
        raise UserError(
            f"callbacks={short(session.callbacks)}: must be a list of cnnjax.Callback, such as "
            "[cnnjax.EarlyStopping()]"
        )


def check_config(config: Any) -> None:
    """Raise UserError unless it is a Config."""
    if not isinstance(config, Config):
        raise UserError(
            f"config={short(config)}: must be a cnnjax.Config, such as cnnjax.Config(model='resnet20')"
        )


def check_mesh(mesh: Any) -> None:
    """Raise UserError unless it is a mesh, or None."""
    if mesh is not None and not isinstance(mesh, Mesh):
        raise UserError(f"mesh={short(mesh)}: must be a mesh, such as cnnjax.make_mesh(data=4, model=2)")


def check_variables(variables: Any, shapes: Any, model: str) -> None:
    """Raise UserError unless `variables` are arrays of these shapes, by block or stacked."""
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise UserError(
            f"variables={short(variables)}: must have 'params', as result.variables and model.init(...) have"
        )
    given = _shapes(unstack({name: variables.get(name, {}) for name in shapes}))
    wanted = _shapes(shapes)
    for name in dict.fromkeys([*wanted, *given]):
        if given.get(name) != wanted.get(name):
            here, there = (_words(each.get(name)) for each in (given, wanted))
            raise UserError(f"variables do not fit {model}: {name} is {here}, must be {there}")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jax.numpy.shape(leaf) for path, leaf in leaves
    }


def _words(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"[{', '.join(map(str, shape))}]"
