"""What a decoder of transformers computes, as data that the packed decoder runs by: read from its modules, and checked against them."""
