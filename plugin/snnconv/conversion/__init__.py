"""From a trained network to a spiking one: its steps, and what is checked on the way."""
