"""What a network is made of and Flax does not give as the papers need it."""
