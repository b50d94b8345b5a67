# Fast-SNN (arXiv 2305.19868): 3-bit activations (7 levels), and the rows of a network trained with them. A config puts
# ``act_cfg`` in its network and ``methods`` in its bench.
act_cfg = dict(type="QuantReLU", levels=7)
methods = [
    dict(label="shifted threshold, trained", type="ShiftedThreshold", timesteps=[3], thresholds="trained"),
    dict(label="signed IF, trained", type="SignedIF", timesteps=[7], thresholds="trained"),
    dict(label="SRP, trained", type="SRP", timesteps=[7], pre_timesteps=4, thresholds="trained"),
]
