"""What travels to the Hub with a model: the network, and all that leads from a clip to its prediction."""
