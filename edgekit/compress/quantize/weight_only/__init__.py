"""Weight-only quantization: int8 and int4 weights, float activations."""
