"""PyTorch on the CPU: the reference that the other engines are compared with."""

from __future__ import annotations

from pathlib import Path

from edgekit.runtimes.base import RuntimeStatus, Session, SessionOptions, installed, only_cpu
from edgekit.runtimes.files import check_file, refused

__all__ = ["Torch"]


class Torch:
    """Runs ``.pt2`` files (``torch.export.save``) with PyTorch's own operators.

    The number of threads is one setting of the whole process in PyTorch: the session that was
    loaded last decides.
    """

    name = "torch"

    def status(self) -> RuntimeStatus:
        return installed("torch")

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        check_file(artifact, ".pt2")
        only_cpu("PyTorch", options)
        from edgekit.runtimes.torch_session import program_session  # imports torch: heavy, optional

        from edgekit.programs import load_program

        try:
            return program_session(load_program(artifact), options)
        except Exception as error:  # zipfile, runtime and pickle errors alike
            raise refused(f"PyTorch {self.status().version}", artifact, error) from error
