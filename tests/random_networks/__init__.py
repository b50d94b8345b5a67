"""Small networks drawn at random, and what must hold of every conversion of them."""
