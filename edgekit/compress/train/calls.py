"""Calls of a function of PyTorch, whoever makes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch.overrides import TorchFunctionMode

__all__ = ["CallsOf"]


class CallsOf(TorchFunctionMode):
    """While it is entered, each call of :attr:`function` goes through :meth:`call`.

    Attributes:
        function: one that ``__torch_function__`` tells of.
    """

    function: ClassVar[Callable[..., Any]]

    @abstractmethod
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The result of a call with these arguments; calling the function here does not recurse."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        called = self.call if func is self.function else func
        return called(*args, **(kwargs or {}))
