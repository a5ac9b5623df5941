"""The errors that TensorRT logs, which it would print to the terminal."""

from __future__ import annotations

from typing import Any

__all__ = ["ErrorLog"]

#: What has failed goes on to report that there is no GPU to clean up on.
_NOISE = "catchCudaError"


class ErrorLog:
    """Keeps what TensorRT's builder, parser or runtime logs as an error.

    Args:
        trt: the imported package, ``tensorrt`` or ``tensorrt_rtx``.

    Attributes:
        logger: for the builder, the parser and the runtime.
        errors: one line each, in order.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        errors = self.errors

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                wanted = {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}
                if severity in wanted and _NOISE not in message:
                    errors.append(" ".join(message.split()))

        self.logger = Logger()

    @property
    def first(self) -> str:
        """The first error: later ones follow from it."""
        return self.errors[0][:300] if self.errors else "no reason given"
