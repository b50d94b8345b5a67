"""Which method for this network and this budget: :func:`recommend`."""

from snnconv.selection.budget import Budget
from snnconv.selection.race import recommend
from snnconv.selection.recommendation import Recommendation
from snnconv.selection.trial import Trial

__all__ = ["Budget", "Recommendation", "Trial", "recommend"]
