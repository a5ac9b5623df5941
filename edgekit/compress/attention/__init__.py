"""Efficient attention for long sequences, as drop-in replacements of standard attention."""
