"""Will this network train, and if not, why? One batch, before anything is trained."""

from cnnjax.diagnosis.report import Diagnosis, diagnose
from cnnjax.diagnosis.verdict import Verdict

__all__ = ["Diagnosis", "Verdict", "diagnose"]
