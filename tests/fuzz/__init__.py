"""Files that are mutated at random, and what reading them must end in."""
