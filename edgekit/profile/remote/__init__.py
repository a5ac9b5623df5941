"""``edgekit profile --remote``: the profile of a bundle on a board that ssh reaches.

The board needs ``sh``, ``tar`` and Python. All that is put there lies under
``~/.cache/edgekit/remote``.
"""

from __future__ import annotations

from edgekit.profile.remote.run import profiled_remotely

__all__ = ["profiled_remotely"]
