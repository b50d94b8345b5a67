"""From an ``nn.Module`` to a source graph."""
