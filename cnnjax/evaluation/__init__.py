"""Test a classifier as the papers did: crops, scales, dense, ensembles; and say how sure its numbers are."""

from cnnjax.evaluation.comparison import Paired, compare_paired, disagreement
from cnnjax.evaluation.crops import crops_of, windows
from cnnjax.evaluation.scores import (
    Bin,
    PerClass,
    brier_score,
    calibration_error,
    confusion_matrix,
    confusions,
    fit_temperature,
    negative_log_likelihood,
    per_class,
    reliability,
    temper,
    top_k_error,
)
from cnnjax.evaluation.views import View, views

__all__ = [
    "Bin",
    "Paired",
    "PerClass",
    "View",
    "brier_score",
    "calibration_error",
    "compare_paired",
    "confusion_matrix",
    "confusions",
    "crops_of",
    "disagreement",
    "fit_temperature",
    "negative_log_likelihood",
    "per_class",
    "reliability",
    "temper",
    "top_k_error",
    "views",
    "windows",
]
