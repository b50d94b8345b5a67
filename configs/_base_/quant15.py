# Fast-SNN (arXiv 2305.19868): 4-bit activations (15 levels), and the rows of a network trained with them. A config puts
# ``act_cfg`` in its network and ``methods`` in its bench.
act_cfg = dict(type="QuantReLU", levels=15)
methods = [
    dict(label="shifted threshold, trained", type="ShiftedThreshold", timesteps=[4], thresholds="trained"),
    dict(label="signed IF, trained", type="SignedIF", timesteps=[15], thresholds="trained"),
    dict(label="SRP, trained", type="SRP", timesteps=[15], pre_timesteps=4, thresholds="trained"),
]
