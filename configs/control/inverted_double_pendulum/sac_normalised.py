"""InvertedDoublePendulum with normalised observations; the statistics become part of the spiking network."""

_base_ = "./sac.py"

model = dict(normalised=True)
bench = dict(architecture="SAC actor 64-64, normalised observations")
