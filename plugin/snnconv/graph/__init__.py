"""From a PyTorch network to a source graph: tracing, folding, activation sites, threshold calibration."""
