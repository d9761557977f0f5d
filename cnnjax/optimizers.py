"""Optimizers and schedules by name: those of the papers, and all of optax's with their options."""

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from cnnjax.config import OUR_SCHEDULES, Config
from cnnjax.errors import UserError
from cnnjax.layerwise import clip_by_layer, keep_norms
from cnnjax.lookahead import lookahead

Schedule = Callable[[Any], Any]
"""Step, counted from 0, to learning rate."""
MASKS = ("mask", "weight_decay_mask")
"""How optax's optimizers with a weight decay of their own call the choice of what it applies to."""


def make_optimizer(
    config: Config, peak: Any = None, weight_decay: Any = None
) -> optax.GradientTransformation:
    """Make the config's optimizer; arrays may replace its learning rate and weight decay.

    In order: gradients are clipped, by value, by the norm of each layer and by global norm; the decay is
    added to those of the decayed parameters; the optimizer makes updates of them. "sgd" is
    v = momentum * v + g, w -= learning_rate(step) * v, with `nesterov` times momentum * v + g instead. An
    optimizer of optax's with a weight decay of its own and a choice of parameters, such as adamw, lion or
    lamb, decays in its decoupled way instead. Parameters in one of `groups` have their own multiple of rate
    and decay. With `fixed_norms` each convolution's kernel is then brought back to its initial norm, and with
    `lookahead` the parameters return to their average. With `accumulate` n the mean of n steps' gradients
    makes one update.

    Raises:
        UserError: optax has no optimizer of this name, or it takes no such options.
    """
    schedule = learning_rate(config, peak)
    # optax counts the updates, of which there is one every `accumulate` steps.
    rate = (lambda update: schedule(update * config.accumulate)) if config.accumulate > 1 else schedule
    decay = config.weight_decay if weight_decay is None else weight_decay

    def group(rate_factor: float = 1.0, decay_factor: float = 1.0) -> optax.GradientTransformation:
        own_rate = rate if rate_factor == 1 else lambda step: rate_factor * rate(step)
        return _update_rule(config, own_rate, decay if decay_factor == 1 else decay_factor * decay)

    clips = []
    if config.clip_value is not None:
        clips.append(optax.clip(config.clip_value))
    if config.clip_layer_norm is not None:
        clips.append(clip_by_layer(config.clip_layer_norm))
    if config.clip_norm is not None:
        clips.append(optax.clip_by_global_norm(config.clip_norm))
    rules = group()
    if config.groups:
        groups = {
            pattern: group(own.get("rate", 1.0), own.get("decay", 1.0))
            for pattern, own in config.groups.items()
        }
        rules = optax.multi_transform({**groups, "": rules}, lambda params: label(params, tuple(groups)))
    changes = [keep_norms(_is_convolution)] if config.fixed_norms else []
    if config.lookahead:
        changes.append(lookahead(config.lookahead, config.steps // config.accumulate))
    optimizer = optax.chain(*clips, rules, *changes) if clips or changes else rules
    if config.accumulate > 1:
        return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
    return optimizer


def learning_rate(config: Config, peak: Any = None) -> Schedule:
    """Make the config's schedule; in one of our own, `peak` may replace its learning rate.

    Raises:
        UserError: there is no schedule of this name, or it takes no such options.
    """
    # On a plateau the loop lowers the peak.
    ours = {"piecewise": _piecewise, "cosine": _cosine, "constant": _constant, "plateau": _constant}
    if config.schedule in ours:
        peak = config.learning_rate if peak is None else peak
        if config.schedule_options:
            raise UserError(f"schedule={config.schedule!r} takes no schedule_options: it is set by fields")
        return ours[config.schedule](config, peak)
    schedule, name = _find_schedule(config.schedule)
    parameters = inspect.signature(schedule).parameters
    peak = config.learning_rate  # optax looks at it, so it can't be traced
    known = {
        "peak_value": peak,
        "init_value": 0.0 if "peak_value" in parameters else peak,
        "value": peak,
        "warmup_steps": config.warmup_steps,
        "decay_steps": config.steps,
        "transition_steps": config.steps,
    }
    options = {name: value for name, value in known.items() if name in parameters}
    given = {name: _by_number(value) for name, value in config.schedule_options.items()}
    return _call(schedule, {**options, **given}, f"schedule={name!r}", "schedule_options")


def with_frozen(
    optimizer: optax.GradientTransformation, patterns: tuple[str, ...]
) -> optax.GradientTransformation:
    """Apply `optimizer` only to the parameters that match none of `patterns`; the others do not change."""
    if not patterns:
        return optimizer
    frozen = dict.fromkeys(patterns, optax.set_to_zero())
    return optax.multi_transform({**frozen, "": optimizer}, lambda params: label(params, patterns))


def frozen_leaves(params: Any, patterns: tuple[str, ...]) -> list[bool]:
    """For each leaf of `params` whether it matches one of `patterns`."""
    return [bool(matched) for matched in jax.tree.leaves(label(params, patterns))]


def label(params: Any, patterns: tuple[str, ...]) -> Any:
    """For each parameter the first of `patterns` that its path, such as "block1/conv1/kernel", matches.

    It is "" where none does.

    Raises:
        UserError: a pattern matches no parameter.
    """
    paths = jax.tree.map_with_path(lambda path, _: path_name(path), params)
    names = jax.tree.leaves(paths)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=2, cutoff=0) or names[:2]
            raise UserError(f"no parameter matches {pattern!r}: they are called {', '.join(near)}, ...")
    return jax.tree.map(
        lambda name: next((one for one in patterns if fnmatch.fnmatchcase(name, one)), ""), paths
    )


def path_name(path: Any) -> str:
    """The path of a leaf in a tree, with slashes: "block1/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _update_rule(config: Config, rate: Any, decay: Any) -> optax.GradientTransformation:
    chosen = {
        "convolutions": _is_convolution,
        # The axes do not tell a kernel: a locally connected layer's bias has three, and a stack over depth
        # gives every bias and scale one more. Flax calls kernels "kernel", and so do we.
        "kernels": lambda path, w: w.ndim >= 2 and path_name(path).endswith("kernel"),
        "all": lambda path, w: True,
    }[config.decay]

    def decayed(params: Any) -> Any:
        return jax.tree.map_with_path(chosen, params)

    make, name = _find_optimizer(config.optimizer)
    parameters = inspect.signature(make).parameters
    options: dict[str, Any] = {"learning_rate": rate} if "learning_rate" in parameters else {}
    if config.optimizer == "sgd":
        options |= {"momentum": config.momentum, "nesterov": config.nesterov}
    mask = next((name for name in MASKS if name in parameters), None)
    if "weight_decay" in parameters and mask:
        options |= {"weight_decay": decay, mask: decayed}
    options |= dict(config.optimizer_options)
    optimizer = _call(make, options, f"optimizer={name!r}", "optimizer_options")
    if "weight_decay" in options:
        return optimizer
    return optax.chain(optax.add_decayed_weights(decay, decayed), optimizer)


def _is_convolution(path: Any, w: Any) -> bool:
    """Convolutions alone have kernels [k, k, c_in, c_out], or one axis more when stacked over depth."""
    return w.ndim >= 4


def _piecewise(config: Config, peak: Any) -> Schedule:
    def rate(step: Any) -> Any:
        drops = jnp.sum(jnp.asarray(step) >= jnp.array(config.boundaries, jnp.int32))
        return peak * _warmup(config, step, peak) * config.rate_drop**drops

    return rate


def _cosine(config: Config, peak: Any) -> Schedule:
    def rate(step: Any) -> Any:
        since = _as_type_of(peak, step - config.warmup_steps)
        progress = since / max(1, config.steps - config.warmup_steps)
        return peak * _warmup(config, step, peak) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))

    return rate


def _constant(config: Config, peak: Any) -> Schedule:
    return lambda step: peak * _warmup(config, step, peak)


def _warmup(config: Config, step: Any, peak: Any) -> Any:
    """What part of the rate there is: it rises linearly, or is a tenth, for `warmup_steps`."""
    if config.warmup == "tenth":
        return jnp.where(step < config.warmup_steps, 0.1, 1.0)
    return jnp.minimum(1.0, _as_type_of(peak, step + 1) / (config.warmup_steps + 1))


def _as_type_of(peak: Any, step: Any) -> jax.Array:
    """Steps are whole numbers, and JAX divides those in float32."""
    return jnp.asarray(step, jnp.result_type(peak))


def _by_number(value: Any) -> Any:
    """Steps by number, as optax's piecewise schedules take them: in JSON keys are words."""
    if isinstance(value, Mapping) and all(map(str.isdecimal, value)):
        return {int(step): one for step, one in value.items()}
    return value


def _find_optimizer(name: str) -> tuple[Callable[..., optax.GradientTransformation], str]:
    found = _functions(optax.contrib) | _functions(optax)
    known = {
        name: function
        for name, function in found.items()
        if "learning_rate" in inspect.signature(function).parameters and not name.startswith("scale_by")
    }
    return _find(name, known, "optimizer", ("sgd", "adam", "adamw"))


def _find_schedule(name: str) -> tuple[Callable[..., Schedule], str]:
    found = _functions(optax.schedules)
    endings = ("_decay_schedule", "_schedule", "_decay", "")
    known = {
        function_name.removesuffix(ending): function
        for ending in reversed(endings)
        for function_name, function in found.items()
        if function_name.endswith(ending) and not function_name.startswith(("inject", "join"))
    }
    return _find(name, known, "schedule", OUR_SCHEDULES)


def _find(name: str, known: Mapping[str, Any], kind: str, first: tuple[str, ...]) -> tuple[Any, str]:
    if name not in known:
        near = difflib.get_close_matches(name, dict.fromkeys([*first, *known]), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(first)} and optax's"
        raise UserError(f"{kind}={name!r}: {hint}")
    return known[name], name


def _functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {
        name: function
        for name, function in vars(module).items()
        if not name.startswith("_") and (inspect.isfunction(function) or isinstance(function, partial))
    }


def _call(function: Callable[..., Any], options: Mapping[str, Any], what: str, field: str) -> Any:
    """`function(**options)`; a missing or unknown option is a UserError that names it."""
    parameters = inspect.signature(function).parameters
    if unknown := [name for name in options if name not in parameters]:
        raise UserError(f"{what} has no option {unknown[0]!r}: it has {', '.join(parameters)}")
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in options
    ]
    if missing:
        raise UserError(f"{what} needs {missing[0]}: give {field} {missing[0]}=VALUE")
    try:
        return function(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}, {field}: {str(error).splitlines()[0]}") from None
