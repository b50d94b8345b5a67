"""What a user writes beside the package: modules that register a neuron, a method and a backend of his own."""
