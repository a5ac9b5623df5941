"""Calls of ``scaled_dot_product_attention``, whoever makes them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["AttentionCalls"]


class AttentionCalls(TorchFunctionMode):
    """While it is entered, each such call goes through :meth:`attend`."""

    @abstractmethod
    def attend(self, *args: Any, **kwargs: Any) -> Any:
        """The result of a call with these arguments; calling the function here does not recurse."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        called = self.attend if func is functional.scaled_dot_product_attention else func
        return called(*args, **(kwargs or {}))
