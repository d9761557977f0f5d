"""Measure a network that exists already, at initialisation or while it trains; depth is an axis."""

from cnnjax.ops import marks
from cnnjax.probes import curvature, jacobian, shattering, theory
from cnnjax.probes.health import Health
from cnnjax.probes.layers import LayerProbe, LayerStatistics, layer_statistics
from cnnjax.probes.lesions import Lesions, equal_blocks, find_blocks, lesion, lesioned_outputs, reorder
from cnnjax.probes.path_lengths import PathLengths, gradients_by_length, path_lengths
from cnnjax.probes.probe import Probe, StepContext
from cnnjax.probes.samples import (
    SampleProbe,
    SampleStatistics,
    input_gradients,
    sample_statistics,
    weight_gradients,
)

__all__ = [
    "Health",
    "LayerProbe",
    "LayerStatistics",
    "Lesions",
    "PathLengths",
    "Probe",
    "SampleProbe",
    "SampleStatistics",
    "StepContext",
    "curvature",
    "equal_blocks",
    "find_blocks",
    "gradients_by_length",
    "input_gradients",
    "jacobian",
    "layer_statistics",
    "lesion",
    "lesioned_outputs",
    "marks",
    "path_lengths",
    "reorder",
    "sample_statistics",
    "shattering",
    "theory",
    "weight_gradients",
]
