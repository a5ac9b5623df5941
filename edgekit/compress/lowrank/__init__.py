"""Low rank: layers and attention blocks as chains of smaller ones.

Imports torch, but for :mod:`.recipe_pass`, :mod:`.base` and :mod:`.ranks`.
"""
