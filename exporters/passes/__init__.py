"""Rewrites of an ONNX graph: each a small file, each proven on the graph that it rewrites."""
