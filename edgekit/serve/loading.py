"""From a bundle on disk to a model that was shown to work."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.cache import cache_folder
from edgekit.defaults import defaults_of
from edgekit.errors import GateError, RuntimeUnavailableError
from edgekit.manifest import Artifact
from edgekit.runtimes import Session
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.isolated import IsolatedSession
from edgekit.serve.model import Model, canary
from edgekit.verify import Reference, unusable

__all__ = ["Loaded", "choose_artifact", "load", "opened", "settled"]

_log = logging.getLogger("edgekit.serve")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What :func:`load` found, to make a :class:`~edgekit.serve.model.Model` of.

    Attributes:
        bundle: opened and checked.
        artifact: the one that is served.
        sessions: one an instance, each warm.
        reference: the samples that the bundle stores, one and two.
    """

    bundle: Bundle
    artifact: Artifact
    sessions: list[Session]
    reference: Reference

    def close(self) -> None:
        """Release the sessions, where no model is made of them."""
        for session in self.sessions:
            session.close()

    def model(self, name: str, version: str, config: ModelConfig) -> Model:
        """The model, in the event loop."""
        manifest = self.bundle.manifest
        labels: tuple[str, ...] = ()
        if manifest.labels is not None:
            labels = tuple((self.bundle.path / manifest.labels).read_text("utf-8").splitlines())
        return Model(
            name,
            version,
            artifact=self.artifact,
            inputs=tuple(spec.tensor for spec in manifest.inputs),
            outputs=tuple(spec.tensor for spec in manifest.outputs),
            sessions=self.sessions,
            reference=self.reference,
            config=config,
            labels=labels,
            pad=manifest.pad if config.pad is None else config.pad,
        )


def opened(path: Path, config: ServerConfig) -> Bundle:
    """A bundle that the operator lets be served: with the signature that is asked for, if one is.

    Raises:
        BundleError: it is damaged.
        SecurityError: it has no such signature.
    """
    return Bundle.open(path, signed_by=config.security.require_signature)


def settled(bundle: Bundle, config: ModelConfig) -> ModelConfig:
    """The configuration, with the bundle's own settings for what it does not say.

    Raises:
        RuntimeUnavailableError: nothing in it can be run here.
    """
    artifact = choose_artifact(bundle, config.runtime)
    made = config.with_defaults(defaults_of(bundle, artifact.runtime))
    changes = {name: one for name, one in made if one != getattr(config, name)}
    if changes:
        told = ", ".join(f"{name} {one}" for name, one in changes.items())
        _log.info("%s: its default for %s is used: %s", bundle.path, artifact.runtime, told)
    return made


def load(bundle: Bundle, config: ModelConfig, *, isolate: bool = False) -> Loaded:
    """Load a bundle's sessions, check what they compute, and warm them up.

    Raises:
        RuntimeUnavailableError: nothing in it can be run here.
        GateError: the artifact does not compute here what it did when it was built.
    """
    artifact = choose_artifact(bundle, config.runtime)
    sessions: list[Session] = []
    try:
        reference = _reference(bundle, artifact)
        for instance in range(config.instances):
            session = _session(bundle, artifact, config, instance, isolate=isolate)
            sessions.append(session)
            _prove(bundle, artifact, reference, session)
            _warm_up(bundle, artifact, reference, session, config.warmup)
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return Loaded(bundle, artifact, sessions, reference)


def _warm_up(
    bundle: Bundle, artifact: Artifact, reference: Reference, session: Session, count: int
) -> None:
    try:
        for _ in range(count):
            for feeds in reference.feeds:
                session.run(feeds)
    except Exception as error:
        raise GateError(
            f"failed while it was warmed up: {error}",
            where=f"{bundle.path}, artifact {artifact.id}",
            fix="Run edgekit verify on it here, or serve another --runtime",
        ) from error


def _prove(bundle: Bundle, artifact: Artifact, reference: Reference, session: Session) -> None:
    if not canary(artifact, reference, session):
        raise GateError(
            "does not compute on this machine what it did when it was built",
            where=f"{bundle.path}, artifact {artifact.id}",
            fix="Run edgekit verify on it here, or serve another --runtime",
        )


def _session(
    bundle: Bundle, artifact: Artifact, config: ModelConfig, instance: int, *, isolate: bool
) -> Session:
    options = config.session_options(instance, cache_folder("engines"))
    if isolate:
        return IsolatedSession(artifact.runtime, bundle.file(artifact), options)
    return runtimes.require(artifact.runtime).load(bundle.file(artifact), options)


def choose_artifact(bundle: Bundle, runtime: str | None) -> Artifact:
    """The artifact to serve: of the named runtime, or of the fastest one usable here.

    Raises:
        RuntimeUnavailableError: there is none.
    """
    if runtime is not None:
        return bundle.selected(runtime, runtimes.require(runtime).status().gpu)
    reasons = []
    for decision in bundle.manifest.decisions:
        reason = unusable(decision.runtime, decision.target)
        if not reason:
            return bundle.manifest.artifact(decision.selected)
        reasons.append(f"{decision.runtime}: {reason}")
    for name in dict.fromkeys(decision.runtime for decision in bundle.manifest.decisions):
        if not unusable(name):  # no engine fits: raises, with the command that builds one
            return bundle.selected(name, runtimes.get(name).status().gpu)
    raise RuntimeUnavailableError(
        "; ".join(dict.fromkeys(reasons)) or "has no artifact",
        where=str(bundle.path),
        fix="Install one of these runtimes, or build the bundle for another",
    )


def _reference(bundle: Bundle, artifact: Artifact) -> Reference:
    if bundle.manifest.reference is None:
        return Reference([], [], [])
    stored = Reference.of(bundle, artifact).like_data()
    return Reference(stored.feeds[:2], stored.outputs[:2], stored.kinds[:2])
