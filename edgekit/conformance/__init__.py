"""The conformance suite of the Open Inference Protocol v2, for any server of it.

It talks to a server over the network only; nothing of ``edgekit.serve`` but the protocol's gRPC
messages is imported, and a test holds that.
"""
