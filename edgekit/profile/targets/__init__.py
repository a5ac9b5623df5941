"""What a scenario can ask: loaded artifacts in this process, or a running server."""
