"""S-Kinetics-400, MC3-18 with torchvision's weights: the 7,881 validation videos of arXiv 2409.03368.

The paper does not say which they are: put their list, a path under `val` a line, at `kinetics400/s_kinetics400.txt`.
"""

_base_ = "./mc3_18.py"

test_dataloader = dict(dataset=dict(files="dataset:kinetics400/s_kinetics400.txt"))
bench = dict(dataset="S-Kinetics-400")
