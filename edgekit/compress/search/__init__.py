"""Anytime search over which operators to quantize: by accuracy and by measured latency."""
