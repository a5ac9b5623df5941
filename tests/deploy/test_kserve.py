"""The manifests for KServe fit its custom resources, each other, and edgekit's command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

SCHEMA = yaml.safe_load((Path(__file__).parent / "kserve_schema.yaml").read_text())


def read(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(path.read_text())
    return manifest


@pytest.fixture
def runtime(deploy: Path) -> dict[str, Any]:
    return read(deploy / "kserve" / "runtime.yaml")


@pytest.fixture
def service(deploy: Path) -> dict[str, Any]:
    return read(deploy / "kserve" / "service.yaml")


def check(manifest: dict[str, Any], kind: str) -> None:
    jsonschema.validate(manifest, {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})


@pytest.mark.parametrize("kind", ["ClusterServingRuntime", "ServingRuntime"])
def test_the_runtime_fits_the_resource(kind: str, runtime: dict[str, Any]) -> None:
    check({**runtime, "kind": kind}, "runtime")


def test_the_service_fits_the_resource(service: dict[str, Any]) -> None:
    check(service, "service")


def test_a_field_that_the_resource_does_not_have_is_found(runtime: dict[str, Any]) -> None:
    runtime["spec"]["containers"][0]["argz"] = []
    with pytest.raises(jsonschema.ValidationError, match="argz"):
        check(runtime, "runtime")


def test_the_service_chooses_the_runtime_by_its_format(
    service: dict[str, Any], runtime: dict[str, Any]
) -> None:
    model = service["spec"]["predictor"]["model"]
    (known,) = runtime["spec"]["supportedModelFormats"]
    assert known["autoSelect"]
    assert model["modelFormat"] == {"name": known["name"], "version": known["version"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_the_runtime_runs_a_command_that_edgekit_takes(
    runtime: dict[str, Any], serve_options: Callable[[Sequence[str]], dict[str, object]]
) -> None:
    (container,) = runtime["spec"]["containers"]
    options = serve_options([arg.replace("{{.Name}}", "digits") for arg in container["args"]])
    assert options["path"] == Path("/mnt/models")
    assert options["name"] == "digits"
    ports = {container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")}
    assert ports == {options["port"]} == {container["ports"][0]["containerPort"]}


def test_the_runtime_may_write_to_its_cache_and_nowhere_else(runtime: dict[str, Any]) -> None:
    (container,) = runtime["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    (mount,) = container["volumeMounts"]
    (cache,) = (each["value"] for each in container["env"] if each["name"] == "EDGEKIT_CACHE")
    assert Path(cache).is_relative_to(mount["mountPath"])
