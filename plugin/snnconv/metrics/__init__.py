"""Where a converted network departs from its source, what it costs, and whether its spikes are spikes."""

from snnconv.metrics.auditing import Audit, audit
from snnconv.metrics.comparing import Comparison, compare
from snnconv.metrics.efficiency import frames_per_watt, operations_until
from snnconv.metrics.evaluating import METRICS, Evaluation, Metric, evaluate, register_metric
from snnconv.metrics.fit import FitCurve, fit_curve
from snnconv.metrics.paired import McNemar, mcnemar
from snnconv.metrics.profiling import Profile, profile
from snnconv.metrics.saturating import Saturation, saturation
from snnconv.metrics.tracing import Trace, trace
from snnconv.metrics.uneven import Unevenness, unevenness

__all__ = [
    "METRICS", "Audit", "Comparison", "Evaluation", "FitCurve", "McNemar", "Metric", "Profile", "Saturation", "Trace",
    "Unevenness", "audit", "compare", "evaluate", "fit_curve", "frames_per_watt", "mcnemar", "operations_until",
    "profile", "register_metric", "saturation", "trace", "unevenness",
]  # fmt: skip
