"""The files that travel to the Hub with a model: the network, and all steps from a clip to its prediction."""
