"""Sparsity: zeros in the weights, unstructured or N of every M, cut out or trained from scratch.

Shapes stay as they are, and masks are gone when a pass is done: the zeros are in the weights.
"""
