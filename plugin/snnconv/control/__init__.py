"""Policies of continuous control: the actor to convert, and files it comes from.

>>> import torch, snnconv
>>> from snnconv.control import Actor
>>> actor = Actor([11, 64, 64, 3], normalised=True)  # or read_policy("hopper.zip", statistics="vecnormalize.pkl")
>>> observations = torch.randn(256, 11)
>>> snn = snnconv.convert(actor, snnconv.methods.SignedIF(timesteps=16), calibration=observations, progress=False)
>>> torch.tanh(snn(observations)).shape  # actions between -1 and 1
torch.Size([256, 3])
"""

from snnconv.control.actor import Actor, Normalise
from snnconv.control.policy_file import PolicyFileError, actor_from_state, read_policy
from snnconv.control.statistics import read_statistics

__all__ = ["Actor", "Normalise", "PolicyFileError", "actor_from_state", "read_policy", "read_statistics"]
