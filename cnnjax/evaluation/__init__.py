"""Test a classifier as the papers did: crops, scales, dense, ensembles; and say how sure its numbers are."""

from cnnjax.evaluation.classify import classifier, classify, reestimate_averages
from cnnjax.evaluation.comparison import Paired, compare_paired, disagreement, mean_interval
from cnnjax.evaluation.crops import crops_of, windows
from cnnjax.evaluation.inputs import AS_TRAINED, Cropping, as_cropping
from cnnjax.evaluation.predictions import Predictions, average
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
from cnnjax.evaluation.tables import write_csv, write_parquet
from cnnjax.evaluation.views import Crops, View, views

__all__ = [
    "AS_TRAINED",
    "Bin",
    "Cropping",
    "Crops",
    "Paired",
    "PerClass",
    "Predictions",
    "View",
    "as_cropping",
    "average",
    "brier_score",
    "calibration_error",
    "classifier",
    "classify",
    "compare_paired",
    "confusion_matrix",
    "confusions",
    "crops_of",
    "disagreement",
    "fit_temperature",
    "mean_interval",
    "negative_log_likelihood",
    "per_class",
    "reestimate_averages",
    "reliability",
    "temper",
    "top_k_error",
    "views",
    "windows",
    "write_csv",
    "write_parquet",
]
