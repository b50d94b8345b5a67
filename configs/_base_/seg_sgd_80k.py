# mmsegmentation's 80,000 iterations of SGD with polynomial decay, for pretrained backbones.
iterations = 80000
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, begin=0, end=iterations, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=iterations // 4)
