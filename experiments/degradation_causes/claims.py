"""What the rows say of the papers' claims, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .remedies import REMEDIES, UNTREATED

Row = Mapping[str, Any]
TITLES = {remedy.name: remedy.title for remedy in (UNTREATED, *REMEDIES)}
TRAINS, BETTER, SAME, WORSE, DIVERGES = (
    "trains as the shallow net does", "better", "no clear difference", "worse", "diverges",
)  # fmt: skip


def outcome(
    errors: Sequence[float | None], untreated: Sequence[float], shallow: Sequence[float] | None
) -> str:
    """What a remedy does, by the final errors [seed]; None is a divergence.

    It is better or worse than no remedy where every seed is, and as good as the shallow net where its best
    seed is not behind the shallow net's worst one, too.
    """
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return DIVERGES
    if max(known) < min(untreated):
        return TRAINS if shallow is not None and min(known) <= max(shallow) else BETTER
    return WORSE if min(known) > max(untreated) else SAME


class Patient:
    """The rows of one deep net, and of the shallow one if there is one."""

    def __init__(self, name: str, results: Sequence[Row]) -> None:
        self.name = name
        own = [row for row in results if row["patient"] == name]
        self.arms = {arm: [row for row in own if row["remedy"] == arm] for arm in TITLES}
        self.arms = {arm: rows for arm, rows in self.arms.items() if rows}
        others = [row for row in results if row["patient"] != name and row["changes"] == "reference"]
        self.shallow = [row for row in others if row["shallow"]]

    def errors(self, arm: str) -> list[float | None]:
        """Final training errors [seed]."""
        return _errors(self.arms[arm])

    def outcome(self, arm: str) -> str:
        """Its `outcome`; nothing is said where the untreated net diverges."""
        untreated, shallow = self.errors(UNTREATED.name), _errors(self.shallow)
        if None in untreated or None in shallow:
            return ""
        return outcome(self.errors(arm), _known(untreated), _known(shallow) or None)

    def closed(self, arm: str) -> float | None:
        """The share of the gap to the shallow net that it closes, of mean errors."""
        errors, untreated = self.errors(arm), self.errors(UNTREATED.name)
        shallow = _errors(self.shallow)
        if not shallow or None in (*errors, *untreated, *shallow):
            return None
        gap = np.mean(_known(untreated)) - np.mean(_known(shallow))
        return float((np.mean(_known(untreated)) - np.mean(_known(errors))) / gap) if gap > 0 else None


def answer(results: Sequence[Row]) -> str:
    """Paragraphs: which remedies work, and what that says."""
    names = dict.fromkeys(row["patient"] for row in results if not row["shallow"])
    patients = [Patient(name, results) for name in names]
    return "\n\n".join(part for patient in patients for part in _parts(patient) if part) + _verdicts(results)


def _parts(patient: Patient) -> list[str]:
    return [
        f"Answer, for {patient.name}. {_degradation(patient)}",
        _gradients(patient),
        _group(patient, "training", "Changes of training alone"),
        _longer(patient),
        _explosion(patient),
        _group(patient, "network", "The net changed, without shortcuts"),
        _without_shortcuts(patient),
        _group(patient, "shortcuts", "Controls, which have shortcuts and are no plain nets"),
    ]


def _degradation(patient: Patient) -> str:
    own = f"Untreated, its training error is {_percent(patient.errors(UNTREATED.name))}"
    if not patient.shallow:
        return f"{own}."
    return f"{own}; that of {patient.shallow[0]['network']} is {_percent(_errors(patient.shallow))}."


def _gradients(patient: Patient) -> str:
    """Of the untreated net: do they vanish, and what do the first steps do to the first layer?"""
    rows = patient.arms[UNTREATED.name]
    begin, end = (_measured(rows, which) for which in (0, -1))
    ratios = [one["first_to_last"] for one in begin if one["first_to_last"] is not None]
    if not ratios:
        return ""
    low, high = min(ratios), max(ratios)
    if low > 1:
        said = (
            "do not vanish towards the input, as He et al. say; nor are they equal over depth, but explode"
            if low > 10
            else "do not vanish towards the input, as He et al. say"
        )
    else:
        said = "vanish towards the input" if high < 1 else "neither vanish nor explode"
    beside = ""
    if of_shallow := [one["first_to_last"] for one in _measured(patient.shallow, 0) if one["first_to_last"]]:
        beside = f" ({patient.shallow[0]['network']}: {_range(of_shallow)})"
    text = (
        f"Its gradients at initialisation {said}: the first layer's weight gradient is {_range(ratios)} "
        f"times the last one's{beside}."
    )
    step = end[0]["step"]
    if step == 0:
        return text
    falls = [a["first_gradient"] / b["first_gradient"] for a, b in zip(begin, end, strict=True)]
    grows = [b["first_weight"] / a["first_weight"] for a, b in zip(begin, end, strict=True)]
    return (
        f"{text} After {step} steps the first layer's gradient is {_range(falls)} times smaller than at "
        f"first, and its weights' norm {_range(grows)} times what it was."
    )


def _group(patient: Patient, kind: str, title: str) -> str:
    """The outcomes of the remedies of a kind, and their errors."""
    by_outcome: dict[str, list[str]] = {}
    for arm, rows in patient.arms.items():
        if rows[0]["changes"] == kind:
            known = f" ({_percent(patient.errors(arm))})" if _known(patient.errors(arm)) else ""
            by_outcome.setdefault(patient.outcome(arm), []).append(f"{TITLES[arm]}{known}")
    if not by_outcome:
        return ""
    parts = [
        f"{word or 'no comparison'}, {', '.join(by_outcome[word])}"
        for word in (TRAINS, BETTER, SAME, WORSE, DIVERGES, "")
        if word in by_outcome
    ]
    return f"{title}: {'; '.join(parts)}."


def _longer(patient: Patient) -> str:
    """He et al.'s footnote."""
    if "longer" not in patient.arms or (share := patient.closed("longer")) is None:
        return ""
    found = patient.outcome("longer")
    if found == TRAINS:
        word = "does not hold here, where even the untreated schedule is short: that is enough"
    elif found == BETTER:
        word = f"holds in part: it closes {100 * share:.0f} % of the gap and leaves the rest"
    else:
        word = "holds here, too"
    return (
        f"He et al.'s remark that the degradation is still there after training 3 times as long (footnote 3) "
        f"{word}."
    )


def _explosion(patient: Patient) -> str:
    """The remedies for an exploding first gradient."""
    arms = ("warmup", "clipping", "fixed_norms")
    shares = {arm: patient.closed(arm) for arm in arms if arm in patient.arms}
    known = {arm: share for arm, share in shares.items() if share is not None}
    helping = {arm: known[arm] for arm in known if patient.outcome(arm) in (BETTER, TRAINS)}
    if not known:
        return ""
    if not helping:
        return (
            "No remedy against the explosion of the first gradients makes a clear difference: nothing here "
            "says that it is the cause."
        )
    best = max(helping, key=lambda arm: helping[arm])
    part = "all of the gap" if patient.outcome(best) == TRAINS else "a part of the gap, not all"
    return (
        f"The explosion of the first gradients explains {part}: {TITLES[best]}, the best remedy against it, "
        f"closes {100 * helping[best]:.0f} %."
    )


def _without_shortcuts(patient: Patient) -> str:
    """Balduzzi et al. and Xiao et al."""
    claims = {
        "looks_linear": "Balduzzi et al.'s claim that looks-linear nets train without shortcuts",
        "delta_orthogonal": "Xiao et al.'s that delta-orthogonal ones do, without BatchNorm",
    }
    words = {TRAINS: "holds", BETTER: "holds in part", SAME: "is not borne out", WORSE: "is not borne out"}
    said = [
        f"{text} {words[found]}"
        for arm, text in claims.items()
        if arm in patient.arms and (found := patient.outcome(arm)) in words
    ]
    return "; ".join(said) + "." if said else ""


def _verdicts(results: Sequence[Row]) -> str:
    """How often the verdict was right, by its own criterion."""
    told = [row for row in results if row["verdict"] != "unknown"]
    right = sum((row["verdict"] == "trains") == row["trained"] for row in told)
    return (
        f"\n\nThe verdict of `cnnjax.diagnose` on the initial weights was right for {right} of {len(told)} "
        f"runs that it judged, of {len(results)}; a run has trained if its loss is below half of chance's."
    )


def _measured(rows: Sequence[Row], which: int) -> list[dict[str, Any]]:
    """The first or the last of the measured steps [seed]."""
    return [row["gradients"][which] for row in rows if row["gradients"]]


def _errors(rows: Sequence[Row]) -> list[float | None]:
    return [row["training_error"] for row in rows]


def _known(errors: Sequence[float | None]) -> list[float]:
    return [error for error in errors if error is not None]


def _percent(errors: Sequence[float | None]) -> str:
    values = 100 * np.array(_known(errors))
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread} %" if len(values) else "unknown, for it diverges"


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.2g}" if value < 100 else f"{value:,.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
