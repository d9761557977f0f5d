"""Turn names into objects; only this file knows both.

`resolve` makes a `Task` from a Config and the objects that a user gives.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnnjax.config import Config
from cnnjax.data import Arrays, Dataset, Stream, as_data, open_data
from cnnjax.data.whiten import Whitening
from cnnjax.errors import UserError
from cnnjax.initial import Initial, match, read_initial
from cnnjax.losses import METRICS, error, make_loss
from cnnjax.models import build
from cnnjax.network import Variables, as_network
from cnnjax.objects import describe, is_object, load_object
from cnnjax.optimizers import frozen_leaves, learning_rate, make_optimizer, with_frozen
from cnnjax.preprocessing import make_preprocessing
from cnnjax.probes import Health, LayerProbe, Probe, SampleProbe
from cnnjax.second_order import Curvature, sample_curvature
from cnnjax.training.inputs import Data, example, train_of
from cnnjax.training.task import PerExample, Task
from cnnjax.trial import try_out

PROBES: Mapping[str, Callable[[], Probe]] = {
    "health": Health,
    "layers": LayerProbe,
    "samples": SampleProbe,
}
INPUTS_TO_START_FROM = 5_000
"""Training inputs that a network may compute its initial variables from: the first ones."""
OWNED = {
    "model": ("model", "model_options", "bn_group_size"),
    "loss": ("loss", "map_constant", "label_smoothing"),
    "data": ("data",),
    "augment": ("augment", "colour", "photometry", "cutout", "mixup"),
    "metrics": ("metrics",),
    "initial": ("initial",),
    "optimizer": (
        "optimizer", "optimizer_options", "learning_rate", "schedule", "schedule_options", "boundaries",
        "rate_drop", "patience", "warmup_steps", "warmup", "momentum", "nesterov", "weight_decay",
        "decay", "groups", "clip_norm", "clip_layer_norm", "clip_value", "fixed_norms", "max_filter_rms",
        "lookahead", "accumulate",
    ),
}  # fmt: skip
"""The fields of a Config in the place of which an object stands."""


@dataclasses.dataclass(frozen=True)
class Objects:
    """Objects that replace names; None keeps the name. `cnnjax.train` describes the fields."""

    model: Any = None
    optimizer: optax.GradientTransformation | None = None
    loss: PerExample | None = None
    data: Any = None
    augment: Callable[..., Any] | None = None
    metrics: Mapping[str, PerExample] | Sequence[str] | None = None
    probes: Any = ()
    initial: Any = None
    whitening: Whitening | None = None
    """Of the training set, as fitted before, where `normalize` is "zca"."""

    @property
    def given(self) -> dict[str, Any]:
        """Those that the user gave, except probes, which have no part in what is trained."""
        return {name: value for name, value in vars(self).items() if name in OWNED and value is not None}


def resolve(config: Config, objects: Objects = Objects()) -> Task:
    """Make the `Task` of a config, with the objects that replace its names.

    Raises:
        UserError: a name is unknown, or an object is of the wrong kind, contradicts the config, or does not
            fit the others.
    """
    given = objects.given
    _check_contradictions(config, given)
    whole = as_data(given["data"] if "data" in given else open_data(config.data))
    if config.unreadable == "skip" and isinstance(whole, Stream):
        whole = whole.readable()
    data = _prepare(whole, config)
    own_objects = dict(given)
    if "model" not in given and is_object(config.model):
        own_objects["model"] = load_named(config, data)
    network = as_network(own_objects["model"] if "model" in own_objects else _build(config, data))
    raw, _ = example(data, config.batch_size, network.source)
    classes = getattr(network.source, "num_classes", data.classes)  # a net may have more than the data
    prepared = make_preprocessing(config, data, raw, objects.augment, objects.whitening, classes)
    loss = objects.loss or make_loss(config)
    curvature = functools.partial(
        _curvature, config, data, network=network, normalize=prepared.normalize, loss=loss
    )
    task = Task(
        config=config,
        network=network,
        loss=loss,
        test_loss=objects.loss or make_loss(dataclasses.replace(config, label_smoothing=0.0)),
        metrics=_metrics(config, objects),
        optimizer=_optimizer(config, objects, curvature),
        schedule=None if "optimizer" in given else functools.partial(learning_rate, config),
        data=data,
        normalize=prepared.normalize,
        augment=prepared.augment,
        probes=make_probes(objects.probes or config.probes),
        averaging=config.ema or None,
        frozen=functools.partial(frozen_leaves, patterns=config.freeze),
        whitening=prepared.whitening,
    )
    initial = _initial(config, objects, task)
    are_logits, fingerprints = _try_out(task, own_objects)
    return dataclasses.replace(
        task,
        # Outputs that are no logits have no class to be wrong about.
        metrics={name: one for name, one in task.metrics.items() if are_logits or one is not error},
        initial=initial or _from_inputs(task),
        notes=(*_notes(config, given, whole), *(initial.notes if initial else ())),
        identity={"data": whole.digest, "objects": _traced(fingerprints, initial), **_skipped(whole)},
        omitted=_omitted(whole),
        in_place=_in_place(given, data, prepared.normalized, prepared.augmented),
    )


def _try_out(task: Task, own_objects: Mapping[str, Any]) -> tuple[bool, dict[str, str]]:
    """Whether outputs are logits of the data's classes, and the fingerprints of the user's objects."""
    if not set(own_objects) - {"data", "initial"} and isinstance(task.data, Dataset | Stream):
        return True, {}  # of our own all of this is known
    return try_out(task, own_objects, *example(task.data, task.config.batch_size, task.network.source))


def _in_place(given: Mapping[str, Any], data: Data, normalized: str, augmented: str) -> dict[str, Any]:
    """What is recorded for fields that an object replaces or that do not apply."""
    nothing = dict.fromkeys(field for name in given if name != "metrics" for field in OWNED[name])
    described = {name: describe(given[name]) for name in ("model", "loss", "optimizer") if name in given}
    data_name = {"data": data.name} if "data" in given else {}
    return {**nothing, **described, **data_name, "normalize": normalized, "augment": augmented}


def _traced(fingerprints: Mapping[str, str], initial: Initial | None) -> dict[str, str]:
    """Fingerprints of objects, and the versions that made them: only those of the same versions compare."""
    found = {**fingerprints, **({"initial": initial.digest} if initial else {})}
    return {**found, "traced by": f"jax {jax.__version__} on {jax.default_backend()}"} if found else {}


def make_probes(probes: Any) -> tuple[Probe, ...]:
    """One probe or several, objects or names, as a tuple.

    Raises:
        UserError: one is not a probe, or two have the same name.
    """
    listed = probes if isinstance(probes, Sequence) and not isinstance(probes, str) else (probes,)
    found = tuple(_probe(probe) for probe in listed)
    names = [probe.name for probe in found]
    if len(set(names)) < len(names):
        raise UserError(f"probes: two are called {max(names, key=names.count)!r}; give one another `name`")
    return found


def _probe(probe: Any) -> Probe:
    if isinstance(probe, str):
        if probe not in PROBES:
            raise UserError(f"probes={probe!r}: must be of {', '.join(PROBES)}")
        return PROBES[probe]()
    if isinstance(probe, type):
        raise UserError(f"probes={probe.__name__} is a class: give an instance, {probe.__name__}()")
    if not isinstance(probe, Probe):
        raise UserError(f"probes={describe(probe)}: is no cnnjax.probes.Probe")
    return probe


def load_named(config: Config, data: Any = None) -> Any:
    """Make the network that `config.model` names (`package.module:Net` or `path/net.py:Net`).

    A class or function gets `model_options`, and `num_classes` and `dtype` if it takes them.
    """
    found: Any = load_object(config.model)
    options = dict(config.model_options)
    if isinstance(found, nn.Module | tuple) or not callable(found):
        if options:
            raise UserError(f"--options: {config.model} is an object that is made already, and takes none")
        return found
    make: Any = found
    parameters = inspect.signature(make.__init__ if isinstance(make, type) else make).parameters
    defaults = {"num_classes": getattr(data, "classes", None), "dtype": jnp.dtype(config.dtype)}
    options = {
        name: value for name, value in defaults.items() if name in parameters and value is not None
    } | options
    if config.bn_group_size is not None:
        options["bn_group_size"] = config.bn_group_size
    if unknown := [name for name in options if name not in parameters]:
        fields = [name for name in parameters if name not in ("self", "rngs", "parent", "name")]
        raise UserError(f"{config.model} has no field {unknown[0]!r}: its fields are {', '.join(fields)}")
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    if "rngs" in parameters:  # a module of NNX is made where its random numbers are
        return functools.partial(make, **options)
    try:
        return make(**options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{config.model} can't be made: {type(error).__name__}: {error}") from error


def _build(config: Config, data: Any) -> nn.Module:
    defaults: dict[str, Any] = {"num_classes": data.classes, "dtype": jnp.dtype(config.dtype)}
    if config.bn_group_size is not None:
        defaults["bn_group_size"] = config.bn_group_size
    model = build(config.model, **{**defaults, **config.model_options})
    if data.classes is None:
        raise UserError(
            f"{config.model} is a classifier, and the data has no classes: labels must be whole numbers"
        )
    if (classes := getattr(model, "num_classes", data.classes)) < data.classes:
        raise UserError(f"num_classes={classes}: the data has {data.classes} classes")
    return model


def _prepare(data: Any, config: Config) -> Data:
    if not isinstance(data, Data):
        raise UserError(f"data={describe(data)}: give arrays (x, y, x_test, y_test) or sources (train, test)")
    if config.validation:
        data = data.split(config.validation, config.seed)
    return data.downsampled(config.downsample)


def _check_contradictions(config: Config, given: Mapping[str, Any]) -> None:
    for name in given:
        if name == "data":
            continue
        for field in OWNED[name]:
            value, default = getattr(config, field), getattr(DEFAULTS, field)
            if field != name and value != default:
                raise UserError(
                    f"{field}={value!r} contradicts {name}=, which has its own: leave one of them out"
                )


DEFAULTS = Config()


def _optimizer(
    config: Config, objects: Objects, curvature: Callable[[int], Curvature]
) -> Callable[[Any, Any], optax.GradientTransformation]:
    given = objects.optimizer
    make: Callable[[Any, Any], optax.GradientTransformation]
    if given is None:
        make = functools.partial(make_optimizer, config, curvature=curvature)
        make(config.learning_rate, config.weight_decay)  # a name or option that is unknown is told here
    elif hasattr(given, "init") and hasattr(given, "update"):
        optimizer = given
        make = lambda rate, decay: optimizer  # noqa: E731
    else:
        raise UserError(
            f"optimizer={describe(given)}: give an optax.GradientTransformation, such as optax.adam(1e-3)"
        )
    return lambda rate, decay: with_frozen(make(rate, decay), config.freeze)


def _curvature(config: Config, data: Data, samples: int, **objects: Any) -> Curvature:
    """That of training examples, for an optimizer that asks for it."""
    what = f"optimizer={config.optimizer!r}"
    if not isinstance(data, Dataset | Arrays):
        raise UserError(f"{what}: is for data in memory")
    if config.groups or config.freeze:
        raise UserError(f"{what}: takes all parameters together; leave out groups and freeze")
    return sample_curvature(train_of(data), samples, what, **objects)


def _initial(config: Config, objects: Objects, task: Task) -> Initial | None:
    given = objects.initial if objects.initial is not None else config.initial
    if given is None:
        return None
    if isinstance(given, str | Path):
        given = read_initial(given, config.model)
    raw, _ = example(task.data, 1, task.network.source)
    key, inputs = jax.eval_shape(lambda: jax.random.key(0)), jax.eval_shape(task.normalize, raw)
    return match(given, jax.eval_shape(task.network.init, key, inputs))


def _from_inputs(task: Task) -> Callable[[Variables], Variables] | None:
    """How a network starts from what it computes of training inputs, if it has `initial_from`.

    That is a method of normalised inputs [example, ...], the first ones, to arrays by path, such as
    "params/whiten/kernel". It is called once, when a run begins; what exists already needs no start.
    """
    compute = getattr(task.network.source, "initial_from", None)
    if compute is None:
        return None
    if not isinstance(task.data, Dataset | Arrays):
        raise UserError(f"{task.short_name} computes its initial weights from inputs: give data in memory")
    inputs, _ = train_of(task.data)

    @functools.cache
    def computed() -> Initial:
        with jax.ensure_compile_time_eval():  # a run begins inside a trace
            some = jax.tree.map(lambda leaf: jnp.asarray(leaf[:INPUTS_TO_START_FROM]), inputs)
            return Initial(compute(jax.tree.map(np.asarray, task.normalize(some))), "", ())

    return lambda own: computed()(own)


def _skipped(data: Any) -> dict[str, list[str]]:
    """The pictures that are left out, for the record, if there are any."""
    return {"skipped": list(data.skipped)} if isinstance(data, Stream) and data.skipped else {}


def _omitted(data: Any) -> str:
    return data.omitted if isinstance(data, Stream) else ""


def _notes(config: Config, given: Mapping[str, Any], data: Any) -> list[str]:
    """Remarks on settings that are allowed but perhaps unintended, one line each."""
    notes = []
    if omitted := _omitted(data):
        notes.append(f"{omitted}; config.json lists all")
    late = [step for step in config.boundaries if step >= config.steps]
    if config.schedule == "piecewise" and "optimizer" not in given and late:
        stays = "never drops" if len(late) == len(config.boundaries) else f"does not drop at {late[0]}"
        notes.append(
            f"boundaries={config.boundaries}: the rate {stays}, for there are {config.steps} steps; another "
            f"choice is boundaries {config.steps // 2} {config.steps * 3 // 4}, or the schedule cosine"
        )
    return notes


def _metrics(config: Config, objects: Objects) -> dict[str, PerExample]:
    """The error, the config's by name, and those given: functions by name, or names."""
    given = objects.metrics or {}
    named = config.metrics if isinstance(given, Mapping) else (*config.metrics, *given)
    for name in named:
        if name not in METRICS:
            raise UserError(f"metrics={name!r}: must be of {', '.join(METRICS)}, or a function by its name")
    return {
        "error": error,
        **{name: METRICS[name] for name in named},
        **(given if isinstance(given, Mapping) else {}),
    }
