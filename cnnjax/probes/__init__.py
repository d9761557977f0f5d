"""Measure a network that exists already, at initialisation or while it trains; depth is an axis."""

from cnnjax.ops import marks
from cnnjax.probes import curvature, jacobian, shattering, theory
from cnnjax.probes.health import Health
from cnnjax.probes.layers import LayerProbe, LayerStatistics, layer_statistics
from cnnjax.probes.lesions import Lesions, equal_blocks, find_blocks, lesion, reorder
from cnnjax.probes.path_lengths import PathLengths, gradients_by_length, path_lengths
from cnnjax.probes.probe import Probe, StepContext
from cnnjax.probes.samples import (
    SampleProbe,
    SampleStatistics,
    input_gradients,
    sample_statistics,
    weight_gradients,
)
from cnnjax.probes.sharpness import box_sharpness
from cnnjax.probes.surfaces import filter_axes, grid, loss_surface, random_direction
from cnnjax.probes.trajectories import Trajectory, principal_plane, random_walk_explained

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
    "Trajectory",
    "box_sharpness",
    "curvature",
    "equal_blocks",
    "filter_axes",
    "find_blocks",
    "gradients_by_length",
    "grid",
    "input_gradients",
    "jacobian",
    "layer_statistics",
    "lesion",
    "loss_surface",
    "marks",
    "path_lengths",
    "principal_plane",
    "random_direction",
    "random_walk_explained",
    "reorder",
    "sample_statistics",
    "shattering",
    "theory",
    "weight_gradients",
]
