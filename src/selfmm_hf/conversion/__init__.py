"""Models from and to other formats: official checkpoints, ONNX."""
