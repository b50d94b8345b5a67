# Fast-SNN's recipe (the authors' public code): 50 epochs of SGD with polynomial decay.
epochs = 50
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.007, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type="PolyLR", power=0.9, begin=0, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs // 5)
