"""``MODEL`` on the command line: from a reference to a workload."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import runtimes, zoo
from edgekit.bundle import Bundle
from edgekit.calibration.sources import file_source, held_out, kept
from edgekit.errors import EdgekitError, ModelReferenceError, WorkloadError, did_you_mean
from edgekit.exporters.prepare import load_onnx
from edgekit.fidelity import fidelity_evaluate
from edgekit.reference import reference_predict
from edgekit.runtimes import SessionOptions
from edgekit.spec import Array, TensorSpec, is_float
from edgekit.state import pairs
from edgekit.workload import Metric, Workload

if TYPE_CHECKING:
    import torch

__all__ = ["resolve"]

_FORMS = "file.py:factory, package.module:factory, zoo:NAME, model.onnx, model.pt2 or x.edge"
_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl"}


def resolve(reference: str, calib: Path | None = None) -> Workload:
    """The workload that a MODEL argument names.

    Args:
        reference: ``file.py:factory``, ``package.module:factory``, ``zoo:NAME``, ``model.onnx``,
            ``model.pt2`` or ``x.edge``.
        calib: calibration data for the forms that are only a model (ONNX, ``.pt2``, ``.edge``).

    Raises:
        ModelReferenceError: nothing is there, or it is a format that is refused.
        WorkloadError: the factory raised or returned something else.
    """
    path = Path(reference)
    if reference.startswith("zoo:"):
        return zoo.load(reference.removeprefix("zoo:"))
    if path.suffix in {".onnx", ".pt2", ".edge"}:
        _must_exist(path)
        return _from_file(path, calib)
    if path.suffix in _PICKLES:
        raise ModelReferenceError(
            "is a checkpoint, not a model: a full pickle or TorchScript file runs any code it "
            "carries, and a state dict has no architecture",
            where=reference,
            fix="Write a factory that builds the module and loads the state dict with "
            "torch.load(path, weights_only=True), and give file.py:factory; or save the model "
            "with torch.export.save as .pt2",
        )
    if ":" not in reference:
        raise ModelReferenceError("is not a model", where=reference, fix=f"Give {_FORMS}")
    return _from_factory(reference)


def _from_file(path: Path, calib: Path | None) -> Workload:
    if path.suffix == ".pt2":
        return _from_pt2(path, calib)
    if path.suffix == ".edge":
        bundle = Bundle.open(path)
        original = bundle.path / bundle.manifest.artifacts[0].files[0].path
        return _data_workload(bundle.manifest.name, original, calib)
    return _data_workload(path.stem, path, calib)


def _from_factory(reference: str) -> Workload:
    place, _, attribute = reference.rpartition(":")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_name(place)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        known = [name for name, value in vars(module).items() if callable(value)]
        hint = did_you_mean(attribute, known)
        raise ModelReferenceError(
            f"has no factory {attribute!r}{hint}",
            where=place,
            fix="Define a function without arguments that returns an edgekit.Workload",
        )
    try:
        workload = factory()
    except EdgekitError:
        raise
    except Exception as error:  # the user's own code
        raise WorkloadError(
            f"the factory raised {type(error).__name__}: {error}",
            where=reference,
            fix="Mend the factory; --debug shows the traceback",
        ) from error
    if not isinstance(workload, Workload):
        raise WorkloadError(
            f"the factory returned {type(workload).__name__}, not an edgekit.Workload",
            where=reference,
            fix="Return edgekit.Workload(name=..., model=..., ...)",
        )
    return workload


def _import_file(path: Path) -> Any:
    _must_exist(path)
    spec = importlib.util.spec_from_file_location(f"_edgekit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelReferenceError("is not a Python file", where=str(path), fix=f"Give {_FORMS}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up by name
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code
        raise _import_failed(str(path), error) from error
    finally:
        sys.path.pop(0)
    return module


def _import_name(name: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's own code
        raise _import_failed(name, error) from error
    finally:
        sys.path.pop(0)


def _import_failed(where: str, error: Exception) -> ModelReferenceError:
    return ModelReferenceError(
        f"importing it raised {type(error).__name__}: {error}",
        where=where,
        fix="Check the name and its imports; --debug shows the traceback",
    )


def _from_pt2(path: Path, calib: Path | None) -> Workload:
    from edgekit.programs import keyword_names, load_program  # needs torch

    try:
        named = load_program(path)
    except EdgekitError as error:
        raise ModelReferenceError(error.what, where=str(path), fix=error.fix) from error
    except Exception as error:  # zipfile, runtime and pickle errors alike
        raise ModelReferenceError(
            f"is not a torch.export program: {type(error).__name__}: {error}",
            where=str(path),
            fix="Save it with torch.export.save(torch.export.export(model, inputs), path)",
        ) from error
    if keyword_names(named.program):
        raise ModelReferenceError(
            "takes keyword inputs",
            where=str(path),
            fix="Export it with positional tensor inputs only",
        )
    return _with_data(
        Workload(
            name=path.stem,
            model=_eval_module(named.program),
            example_inputs={
                spec.name: x
                for spec, x in zip(named.inputs, named.program.example_inputs[0], strict=True)
            },
            output_names=[spec.name for spec in named.outputs],
            dynamic_shapes=_dynamic(named.inputs),
        ),
        named.inputs,
        calib,
    )


def _eval_module(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """The program's module. It is fixed in one mode at export and refuses train() and eval()."""
    module = program.module()
    module.train = lambda mode=True: module  # type: ignore[method-assign] # noqa: ARG005
    module.eval = lambda: module  # type: ignore[method-assign]
    return module


def _dynamic(specs: Sequence[TensorSpec]) -> dict[str, dict[int, str]]:
    """Axes and names of the dynamic dimensions of each input."""
    return {
        spec.name: {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in specs
    }


def _data_workload(name: str, model: Path, calib: Path | None) -> Workload:
    """A workload around an ONNX file: inputs from the file, data from ``--calib``."""
    load_onnx(model)
    with runtimes.require("onnxruntime").load(model, SessionOptions(optimize=False)) as session:
        specs, outputs = session.inputs, [spec.name for spec in session.outputs]
        state = pairs(session.states)
    generator = np.random.default_rng(0)
    examples = {spec.name: _example(spec, generator) for spec in specs}
    workload = Workload(
        name=name,
        model=model,
        example_inputs=examples,
        output_names=outputs,
        dynamic_shapes=_dynamic(specs),
        state=state,
    )
    return _with_data(workload, specs, calib)


def _with_data(workload: Workload, specs: Sequence[TensorSpec], calib: Path | None) -> Workload:
    """Add the data of ``--calib``: four fifths to calibrate on, the rest to judge fidelity."""
    if calib is None:
        return workload
    feeds = file_source(calib, specs)
    workload.calibration = kept(feeds)
    workload.evaluate = fidelity_evaluate(lambda: reference_predict(workload), held_out(feeds))
    workload.metric = Metric("cosine")
    return workload


def _example(spec: TensorSpec, generator: np.random.Generator) -> Array:
    """An input for a model that came without data: normal noise, or ones for integers."""
    shape = spec.concrete({})
    if is_float(spec.dtype):
        return generator.standard_normal(shape).astype(spec.dtype)
    return np.ones(shape, dtype=spec.dtype)


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise ModelReferenceError(
            "no such file", where=str(path), fix="Check the path of the model"
        )
