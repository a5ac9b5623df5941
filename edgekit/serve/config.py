"""What an operator may set: of the server, and of each model in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekit.errors import EdgekitError
from edgekit.manifest import Defaults
from edgekit.runtimes import SessionOptions
from edgekit.security.protection import SecurityConfig

__all__ = [
    "ConfigError",
    "ImageConfig",
    "ModelConfig",
    "RayConfig",
    "ServerConfig",
    "checked",
    "read_config",
]


class ConfigError(EdgekitError):
    """A configuration that cannot be used."""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


_Positive = Annotated[int, Field(ge=1)]
_Milliseconds = Annotated[float, Field(ge=0)]


class ImageConfig(_Config):
    """What ``POST /predict/NAME`` does with the bytes of a picture: ``(x / scale - mean) / std``.

    Attributes:
        scale: what bytes are divided by first.
        mean: one a channel, or one for all; as ``std``.
        reverse_channels: the model wants BGR.
    """

    scale: Annotated[float, Field(gt=0)] = 255.0
    mean: Annotated[tuple[float, ...], Field(min_length=1)] = (0.0,)
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    reverse_channels: bool = False


class ModelConfig(_Config):
    """How one model is loaded, batched and chosen among its versions.

    Attributes:
        runtime: whose artifact; None for the fastest that this machine can run.
        device: see :class:`~edgekit.runtimes.SessionOptions`, as ``threads``.
        cores: shared out evenly among the instances.
        instances: sessions that run side by side, each with its own thread.
        max_batch: most samples that are run together; 1 does not batch.
        preferred_batch_sizes: sizes to stop at, where the queue reaches one.
        max_queue_delay_ms: how long a request may wait for others to be run with. With 0 those that
            are waiting anyway are run together.
        target_p99_ms: let the server choose the largest batch and the longest queue that keep the
            99th percentile of the latency below this.
        queue: requests that may wait; one more is answered 429.
        timeout_ms: deadline of requests that name none.
        priority_levels: priorities a request may have, 1 is served first; requests without one
            have the middle one.
        pad: for inputs whose dynamic sizes (but the batch) may differ in a batch, the value that
            fills the shorter ones; None for what the bundle says. The model must ignore what is
            filled in, by a mask say.
        versions: ``latest`` (the newest), ``all``, or those named.
        weights: share of the requests that each version gets, where the request names none; a
            version without a weight gets none. Requests with the same ``X-Session-Id`` header get
            the same version.
        shadow: a version that computes the requests that name no version, too, for comparison;
            nobody gets its answer unless they name it. It shares the machine's cores.
        memory_mb: expected size, for the memory budget; measured when not given.
        hang_ms: an inference that takes longer has hung.
        warmup: inferences of stored samples before a version takes requests.
        cache: bytes of answers that each loaded version keeps, by their inputs; 0 keeps none. For
            models that compute the same from the same inputs. An ensemble keeps none, its models
            may.
        image: how float inputs want the bytes of a picture sent to ``/predict``; where it is not
            given, the range of the samples in the bundle tells.
    """

    runtime: str | None = None
    device: str | None = None
    threads: _Positive | None = None
    cores: tuple[int, ...] | None = None
    instances: _Positive = 1
    max_batch: _Positive = 32
    preferred_batch_sizes: tuple[_Positive, ...] = ()
    max_queue_delay_ms: _Milliseconds = 0
    target_p99_ms: Annotated[float, Field(gt=0)] | None = None
    queue: Annotated[int, Field(ge=0)] = 256
    timeout_ms: Annotated[float, Field(gt=0)] | None = None
    priority_levels: _Positive = 3
    pad: dict[str, float] | None = None
    versions: Literal["latest", "all"] | tuple[str, ...] = "latest"
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    shadow: str | None = None
    memory_mb: _Positive | None = None
    hang_ms: Annotated[float, Field(gt=0)] = 60_000
    warmup: Annotated[int, Field(ge=0)] = 3
    cache: Annotated[int, Field(ge=0)] = 0
    image: ImageConfig | None = None

    def due(self, deadline: float | None) -> float | None:
        """When a request has to be answered, in ``time.monotonic``: as it says, else as we do."""
        if deadline is None and self.timeout_ms is not None:
            return time.monotonic() + self.timeout_ms / 1e3
        return deadline

    def with_defaults(self, known: Defaults) -> ModelConfig:
        """With what a bundle says of its runtime in place of what nobody has set."""
        told = {
            "threads": known.threads,
            "device": known.device,
            "instances": known.streams,
            "max_batch": known.batch,
        }
        changes = {
            key: value
            for key, value in told.items()
            if value is not None and key not in self.model_fields_set
        }
        if self.cores is not None:  # they say how many threads there are
            changes.pop("threads", None)
        if self.target_p99_ms is not None:  # the server chooses
            changes.pop("max_batch", None)
        return self.model_copy(update=changes)

    def session_options(self, instance: int, cache: Path) -> SessionOptions:
        """The options of the instance of that number."""
        cores = self.cores
        if cores is not None:
            share = max(1, len(cores) // self.instances)
            start = instance * share % len(cores)
            cores = cores[start : start + share]
        return SessionOptions(threads=self.threads, device=self.device, cores=cores, cache=cache)


class RayConfig(_Config):
    """How many servers ``edgekit serve --ray`` runs.

    Attributes:
        replicas: servers; the least number where ``max_replicas`` is given.
        max_replicas: start more servers under load, up to this many.
        target_requests: requests under way on a server that autoscaling aims at.
        max_requests: most requests under way on a server; what is more waits in Ray's proxy.
        cpus: cores that Ray sets aside for each server.
        health_s: how often Ray asks a server whether its engines work.
    """

    replicas: _Positive = 1
    max_replicas: _Positive | None = None
    target_requests: Annotated[float, Field(gt=0)] = 16
    max_requests: _Positive = 100
    cpus: Annotated[float, Field(ge=0)] = 1
    health_s: Annotated[float, Field(gt=0)] = 5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is less than replicas, {self.replicas}")
        return self


class ServerConfig(_Config):
    """The server as a whole.

    Attributes:
        models: the configuration of each model that differs from ``defaults``, by name.
        defaults: that of every other one.
        max_body_mb: largest body of a request, also of one that was compressed.
        memory_mb: budget of all models together; the least recently used are unloaded to keep it.
        poll_s: how often the repository's folder is looked at; 0 never: load by the API.
        explicit: load only what the API or ``load`` names.
        load: with ``explicit``, models to load at the start.
        isolate: run every engine in a process of its own.
        security: who may use it, and whose bundles it serves.
        drain_s: time that requests under way get after SIGTERM.
        retry_after_s: told to clients that are turned away while nothing is known about the wait.
        log_format: of what the server writes to its standard error.
        access_log: write a line for every request.
        trace_endpoint: URL of an OpenTelemetry collector (OTLP over HTTP) that gets traces.
        ray: how many servers, with ``--ray``.
    """

    models: dict[str, ModelConfig] = {}
    defaults: ModelConfig = ModelConfig()
    max_body_mb: Annotated[float, Field(gt=0)] = 64
    memory_mb: _Positive | None = None
    poll_s: Annotated[float, Field(ge=0)] = 1.0
    explicit: bool = False
    load: tuple[str, ...] = ()
    isolate: bool = False
    security: SecurityConfig = SecurityConfig()
    drain_s: Annotated[float, Field(ge=0)] = 30
    retry_after_s: Annotated[float, Field(ge=0)] = 1
    log_format: Literal["text", "json"] = "text"
    access_log: bool = False
    trace_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+")] | None = None
    ray: RayConfig = RayConfig()

    def of(self, model: str) -> ModelConfig:
        """The configuration of that model."""
        return self.models.get(model, self.defaults)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, for :class:`ServerConfig`.

    Raises:
        ConfigError: it cannot be read, or is not a mapping.
    """
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot be read", where=str(path), fix="Check --config") from error
    except yaml.YAMLError as error:
        what = f"is not YAML: {' '.join(str(error).split())}"
        raise ConfigError(what, where=str(path), fix="Mend the file") from error
    if not isinstance(read, dict):
        raise ConfigError("must be a mapping", where=str(path), fix="See edgekit serve --help")
    return read


def checked(settings: dict[str, Any], where: str) -> ServerConfig:
    """The configuration that ``settings`` describe.

    Raises:
        ConfigError: an unknown setting, or a value that it cannot have.
    """
    try:
        return ServerConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "top level"
        raise ConfigError(
            f"{place}: {first['msg']}", where=where, fix="Mend this setting"
        ) from error
