"""Training towards a spiking network, and of one."""
