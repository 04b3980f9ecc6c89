"""Works on clips by the hundred thousand, on the machines of a Ray cluster."""
