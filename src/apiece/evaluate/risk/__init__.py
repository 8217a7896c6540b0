"""Risk: promises about new pictures that say what they rest on, and are withdrawn where that has failed."""

from apiece.evaluate.risk.conformal_risk_control import conformal_risk_control
from apiece.evaluate.risk.count_intervals import CountInterval, TotalInterval, count_interval, total_interval
from apiece.evaluate.risk.exchangeability import Shift, Summaries, alike, drift_gate, summaries
from apiece.evaluate.risk.learn_then_test import Choice, learn_then_test
from apiece.evaluate.risk.losses import Losses, losses_of
from apiece.evaluate.risk.prediction_powered import Estimate, Powered, discount, mean_count, total_count
from apiece.evaluate.risk.promise import DEFINITIONS, Risk
from apiece.evaluate.risk.risk import risk

__all__ = [
    "DEFINITIONS",
    "Choice",
    "CountInterval",
    "Estimate",
    "Losses",
    "Powered",
    "Risk",
    "Shift",
    "Summaries",
    "TotalInterval",
    "alike",
    "conformal_risk_control",
    "count_interval",
    "discount",
    "drift_gate",
    "learn_then_test",
    "losses_of",
    "mean_count",
    "risk",
    "summaries",
    "total_count",
    "total_interval",
]
