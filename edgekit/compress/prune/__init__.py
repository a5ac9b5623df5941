"""Structured pruning: which channels of a module are coupled, and taking them out.

This package imports torch; import it where a model is changed.
"""

from __future__ import annotations

from edgekit.compress.prune.find import find_groups
from edgekit.compress.prune.groups import Group, Groups, Member
from edgekit.compress.prune.surgery import keep

__all__ = ["Group", "Groups", "Member", "find_groups", "keep"]
