"""The examination: every instrument on one batch, and a short trial to learn that batch by heart."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.diagnosis import instruments
from cnnjax.diagnosis.trial import training_step, untouched
from cnnjax.diagnosis.vitals import Vitals, vital_signs
from cnnjax.network import Network, Variables
from cnnjax.probes.forward import in_training
from cnnjax.probes.jacobian import singular_values
from cnnjax.probes.subject import Losses
from cnnjax.probes.trace import Trace, by_path

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""What runs once is compiled in a third of the time, and takes twice as long."""
STEP, SIGNS = "training step", "vital signs"
SAMPLES = 32
"""Single samples are looked at one by one, so no more of them than this."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examination:
    """Everything that was measured; arrays are numpy's.

    Attributes:
        first: the vital signs of the first step.
        losses: of the batch before each step of the trial, and after the last one.
        untouched: parameters that no gradient reached in the whole trial.
        weights: for each layer, the name of its weight, as in `samples.by_weights.layers`.
        parameters: for each layer, the path of the parameter that it is called by.
        biases: for each, that of the parameter added to it before a normalisation, or None.
        bias_gradients: for each, the norm of that parameter's gradient relative to that of the first.
        widths: for each, how many of its outputs have weights of their own.
        looked_up: for each, whether it is a look-up, an embedding.
        samples: gradients of single samples; None where the network or its input does not allow them.
        singular_values: [sample, output], of the Jacobian; None likewise.
        sharpness: see `instruments.sharpness`; NaN likewise.
        skips: [block], see `instruments.skips`.
        mixes: whether samples depend on each other in evaluation.
        inputs: mean and standard deviation of the input's numbers; NaN if they are no floats.
        labels: the least and the largest, if they are whole numbers.
        classes: the number of outputs, if they are [sample, class].
        dtypes: those in which the layers compute, by name.
        failed: what could not be measured, and why.
    """

    first: Vitals
    losses: np.ndarray
    untouched: list[str]
    weights: tuple[str, ...]
    parameters: tuple[str, ...]
    biases: tuple[str | None, ...]
    bias_gradients: np.ndarray
    widths: tuple[int, ...]
    looked_up: np.ndarray
    samples: instruments.OfSamples | None
    singular_values: np.ndarray | None
    sharpness: float
    skips: np.ndarray
    mixes: bool
    inputs: tuple[float, float]
    labels: tuple[int, int] | None
    classes: int | None
    dtypes: tuple[str, ...]
    failed: dict[str, str]

    @property
    def has_shortcuts(self) -> bool:
        """Whether some block adds its branch to a stream; a plain net's blocks have none."""
        return bool(np.any(self.first.layers.stream_rms > 0))

    @property
    def chance(self) -> float:
        """The loss of guessing, ln(classes), if there are classes; else the first loss."""
        return float(np.log(self.classes)) if self.classes else float(self.losses[0])


class Instruments:
    """The compiled programs for one network, whatever its weights and learning rate.

    Args:
        network: what is examined.
        loss: of outputs and labels, for each sample.
        optimizer_of: from a learning rate, which may be traced, to the optimizer.
    """

    def __init__(
        self, network: Network, loss: Losses, optimizer_of: Callable[[Any], optax.GradientTransformation]
    ) -> None:
        def step(variables: Variables, opt_state: Any, batch: Any, key: jax.Array, rate: Any) -> Any:
            return training_step(network, loss, optimizer_of(rate), variables, opt_state, batch, key)

        def signs(variables: Variables, opt_state: Any, batch: Any, key: jax.Array, rate: Any) -> Vitals:
            return vital_signs(network, loss, optimizer_of(rate), variables, opt_state, batch, key)

        def of_samples(variables: Variables, batch: Any) -> instruments.OfSamples:
            return instruments.of_samples(network, variables, batch, loss)

        def sharpness(variables: Variables, batch: Any) -> jax.Array:
            return instruments.sharpness(network, variables, batch, loss)

        def skips(variables: Variables, batch: Any, key: jax.Array) -> jax.Array:
            return instruments.skips(network, variables, batch, key, loss)

        self.network = network
        self._functions: dict[str, Callable[..., Any]] = {
            STEP: step,
            SIGNS: signs,
            "single samples": of_samples,
            "sharpness": sharpness,
            "Jacobian": functools.partial(singular_values, network),
            "skips": skips,
            "mixing": functools.partial(instruments.depends_on_others, network),
        }
        self._programs: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        self._trace: Trace | None = None

    def _compile(self, arguments: Mapping[str, tuple[Any, ...]]) -> None:
        """Compile for such arguments what is not compiled yet: one is traced while others are compiled."""
        missing = [name for name in arguments if name not in self._programs and name not in self._failed]
        if not missing:  # as in every step but the first
            return
        with ThreadPoolExecutor() as pool:
            compiling = {}
            for name in missing:
                with self._noting_failure(name):
                    lowered = jax.jit(self._functions[name]).lower(*arguments[name])
                    options = {} if name == STEP or jax.default_backend() != "cpu" else QUICKLY
                    compiling[name] = pool.submit(lowered.compile, compiler_options=options)
            for name, program in compiling.items():
                with self._noting_failure(name):
                    self._programs[name] = program.result()

    @contextlib.contextmanager
    def _noting_failure(self, name: str) -> Iterator[None]:
        """Of anyone's network, what one instrument cannot take, others can; but the step must be taken."""
        try:
            yield
        except Exception as error:
            if name in (STEP, SIGNS):
                raise
            self._failed[name] = (str(error).strip() or type(error).__name__).splitlines()[0]

    def _measure(self, name: str, *arguments: Any) -> Any:
        """What an instrument measures; None if it failed."""
        found = None
        if name in self._programs:
            with self._noting_failure(name):
                found = jax.device_get(self._programs[name](*arguments))
        return found

    def step(self, variables: Variables, opt_state: Any, batch: Any, key: jax.Array, rate: Any) -> Any:
        """`training_step` with this learning rate."""
        arguments = variables, opt_state, batch, key, jnp.asarray(rate, float)
        self._compile({STEP: arguments})
        return self._programs[STEP](*arguments)

    def signs(self, variables: Variables, opt_state: Any, batch: Any, key: jax.Array, rate: Any) -> Vitals:
        """`vital_signs` with this learning rate."""
        arguments = variables, opt_state, batch, key, jnp.asarray(rate, float)
        self._compile({SIGNS: arguments})
        return jax.device_get(self._programs[SIGNS](*arguments))

    def trace(self, variables: Variables, inputs: Any, key: jax.Array) -> Trace:
        """The network's layers and joins, which do not depend on the numbers."""

        if self._trace is None:
            forward = in_training(self.network, variables, key)
            self._trace = Trace(forward, variables["params"], inputs)
        return self._trace

    def examine(
        self,
        variables: Variables,
        opt_state: Any,
        batch: tuple[Any, Any],
        rate: Any = 0.0,
        key: jax.Array | None = None,
        steps: int = 50,
        skips: bool = True,
        samples: bool = True,
    ) -> Examination:
        """Measure everything; the trial takes `steps` steps.

        `skips` says whether blocks are skipped, `samples` whether single samples are looked at, which the
        verdict does not need.
        """
        inputs, labels = batch
        key = jax.random.key(0) if key is None else key
        few = jax.tree.map(lambda leaf: leaf[:SAMPLES], batch)
        trace = self.trace(variables, inputs, key)
        arguments = {
            **({"single samples": (variables, few)} if samples else {}),
            "sharpness": (variables, few),
            "Jacobian": (variables, jax.tree.map(lambda leaf: leaf[:8], inputs)),
            "mixing": (variables, few[0]),
            **(
                {"skips": (variables, jax.tree.map(lambda leaf: leaf[: SAMPLES // 2], few), key)}
                if skips and trace.blocks
                else {}
            ),
        }
        of_step = variables, opt_state, batch, key, jnp.asarray(rate, float)
        self._compile({SIGNS: of_step, STEP: of_step, **arguments})
        first = jax.device_get(self._programs[SIGNS](*of_step))
        losses, reached = self._trial(*of_step, steps)
        found = {name: self._measure(name, *each) for name, each in arguments.items()}
        outputs = jax.tree.leaves(first.outputs)
        return Examination(
            first=first,
            losses=losses,
            untouched=untouched(reached),
            weights=tuple(trace.parameters[weight] for weight in trace.weights),
            parameters=tuple("/".join(weight.path) for weight in trace.weights),
            biases=tuple(bias and "/".join(bias.path) for bias in trace.biases),
            bias_gradients=_relative(reached[0], trace),
            widths=trace.units,
            looked_up=np.array([equation.primitive.name == "gather" for equation in trace.equations]),
            samples=found.get("single samples"),
            singular_values=found["Jacobian"],
            sharpness=float("nan") if found["sharpness"] is None else float(found["sharpness"]),
            skips=np.zeros(0) if found.get("skips") is None else found["skips"],
            mixes=bool(found["mixing"]),
            inputs=_mean_and_std(inputs),
            labels=_range(labels),
            classes=outputs[0].shape[1] if len(outputs) == 1 and outputs[0].ndim == 2 else None,
            dtypes=tuple(str(equation.outvars[0].aval.dtype) for equation in trace.equations),
            failed=dict(self._failed),
        )

    def _trial(
        self, variables: Variables, opt_state: Any, batch: Any, key: jax.Array, rate: Any, steps: int
    ) -> tuple[np.ndarray, list[Any]]:
        """Steps on the one batch: losses [step + 1], and norms of gradients by parameter of each step."""
        found = []
        for number in range(steps + 1):
            own = jax.random.fold_in(key, number)
            variables, opt_state, *one = self._programs[STEP](variables, opt_state, batch, own, rate)
            found.append(one)
        found = jax.device_get(found)
        return np.array([loss for loss, _ in found], float), [norms for _, norms in found]


def _relative(gradients: Any, trace: Trace) -> np.ndarray:
    """Of each layer's bias, the gradient's norm over that of its weight; infinity where there is none."""
    norms = by_path(gradients)

    def of(weight: Any, bias: Any) -> float:
        if bias is None or not norms[weight.path] > 0:
            return float("inf")
        return float(norms[bias.path] / norms[weight.path])

    return np.array([of(*pair) for pair in zip(trace.weights, trace.biases, strict=True)])


def _mean_and_std(inputs: Any) -> tuple[float, float]:
    leaves = [np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(inputs) if _is_float(leaf)]
    if not leaves:
        return float("nan"), float("nan")
    everything = np.concatenate(leaves)
    return float(everything.mean()), float(everything.std())


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating) or jnp.result_type(leaf) == jnp.uint8


def _range(labels: Any) -> tuple[int, int] | None:
    leaves = jax.tree.leaves(labels)
    if len(leaves) != 1 or not jnp.issubdtype(jnp.result_type(leaves[0]), jnp.integer):
        return None
    return int(np.min(leaves[0])), int(np.max(leaves[0]))
