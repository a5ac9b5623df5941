"""Checks of the protocol over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from edgekit.conformance.clause import Clause, Level, NotApplicable, Unmet, expect
from edgekit.conformance.extensions import check_classes, class_scores
from edgekit.conformance.grpc_client import call, read_response, refused, request, stream
from edgekit.conformance.target import UNKNOWN, Target
from edgekit.serve.proto import messages

__all__ = [
    "WRONG_GRPC", "classes", "compressed", "health", "id_is_echoed", "index", "infer_raw",
    "infer_typed", "model_metadata", "outputs_chosen", "server_metadata", "statistics",
    "status_codes", "streaming", "streaming_survives", "wrong_message",
]  # fmt: skip


def health(target: Target) -> None:
    expect(call(target, "ServerLive").live, "live: true", "false")
    expect(call(target, "ServerReady").ready, "ready: true", "false")
    asked = messages.ModelReadyRequest(name=target.model)
    expect(call(target, "ModelReady", asked).ready, "a model that is ready", "false")


def server_metadata(target: Target) -> None:
    found = call(target, "ServerMetadata")
    document = target.get("/v2").object()
    got = {"name": found.name, "version": found.version, "extensions": sorted(found.extensions)}
    wanted = {key: document.get(key) for key in ("name", "version")}
    wanted["extensions"] = sorted(target.extensions)
    expect(got == wanted, f"what REST says, {wanted}", got)


def model_metadata(target: Target) -> None:
    found = call(target, "ModelMetadata", messages.ModelMetadataRequest(name=target.model))
    expect(found.name == target.model, f"name {target.model!r}", found.name)
    for kind in ("inputs", "outputs"):
        wanted = [
            {key: entry[key] for key in ("name", "datatype", "shape")}
            for entry in target.metadata.get(kind) or []
        ]
        got = [
            {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape)}
            for entry in getattr(found, kind)
        ]
        expect(got == wanted, f"the {kind} that REST says, {wanted}", got)


def infer_raw(target: Target) -> None:
    answer = call(target, "ModelInfer", request(target))
    expect(answer.model_name == target.model, f"model_name {target.model!r}", answer.model_name)
    target.check_same(read_response(answer))


def infer_typed(target: Target) -> None:
    target.check_same(read_response(call(target, "ModelInfer", request(target, raw=False))))


def id_is_echoed(target: Target) -> None:
    told = call(target, "ModelInfer", request(target, id="edgekit-42")).id
    expect(told == "edgekit-42", "the request's id", repr(told))


def outputs_chosen(target: Target) -> None:
    for name in target.outputs:
        message = request(target)
        message.outputs.add(name=name)
        got = [entry.name for entry in call(target, "ModelInfer", message).outputs]
        expect(got == [name], f"only {name!r}", got)


def versions(target: Target) -> None:
    for version in target.versions:
        asked = messages.ModelReadyRequest(name=target.model, version=version)
        expect(call(target, "ModelReady", asked).ready, f"version {version} ready", "false")
        told = call(target, "ModelInfer", request(target, model_version=version)).model_version
        expect(told == version, f"an answer of version {version!r}", repr(told))


def compressed(target: Target) -> None:
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        answer = call(target, "ModelInfer", request(target), compression=algorithm)
        target.check_same(read_response(answer))


def streaming(target: Target) -> None:
    """Several requests on one stream: one answer each, told apart by their ids."""
    ids = [f"edgekit-{number}" for number in range(5)]
    answers = stream(target, [request(target, id=told) for told in ids])
    errors = [answer.error_message for answer in answers if answer.error_message]
    expect(not errors, "no errors", errors)
    got = [answer.infer_response.id for answer in answers]
    expect(got == ids, f"answers in the order {ids}", got)
    for answer in answers:
        target.check_same(read_response(answer.infer_response))


def streaming_survives(target: Target) -> None:
    wrong = request(target, id="wrong")
    wrong.inputs[0].name = UNKNOWN
    answers = stream(target, [wrong, request(target, id="right")])
    expect(len(answers) == 2, "two answers", len(answers))
    expect(answers[0].error_message, "an error_message in the first", answers[0])
    target.check_same(read_response(answers[1].infer_response))


def index(target: Target) -> None:
    models = call(target, "RepositoryIndex", messages.RepositoryIndexRequest(ready=True)).models
    states = {entry.name: entry.state for entry in models}
    expect(states.get(target.model) == "READY", f"{target.model!r} as READY", states)


def statistics(target: Target) -> None:
    asked = messages.ModelStatisticsRequest(name=target.model)

    def count() -> int:
        found = call(target, "ModelStatistics", asked).model_stats
        return sum(entry.inference_stats.success.count for entry in found)

    before = count()
    call(target, "ModelInfer", request(target))
    after = count()
    expect(after > before, f"more than {before} successes", after)


def classes(target: Target) -> None:
    name, rows = class_scores(target)
    message = request(target)
    message.outputs.add(name=name).parameters["classification"].int64_param = 1
    got = read_response(call(target, "ModelInfer", message))[name]
    check_classes(rows, got, 1)


@dataclass(frozen=True, slots=True)
class WrongMessage:
    """One way to be wrong over gRPC; ``edit`` changes a valid message with raw tensors."""

    id: str
    what: str
    edit: Callable[[Any, Target], None]
    level: Level = "must"
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT

    def status(self, target: Target) -> grpc.StatusCode:
        message = request(target)
        self.edit(message, target)
        return refused(target, "ModelInfer", message)


def wrong_message(wrong: WrongMessage) -> Clause:
    """The clause that a server refuses that message."""

    def check(target: Target) -> None:
        status = wrong.status(target)
        alive = status not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        expect(alive, "a refusal", status.name)

    requires = f"It refuses {wrong.what} with a status other than OK"
    return Clause(f"grpc/refuses-{wrong.id}", wrong.level, requires, check)


def status_codes(target: Target) -> None:
    """The code of every refusal, where it is refused at all."""
    bad = {}
    for wrong in WRONG_GRPC:
        try:
            status = wrong.status(target)
        except Unmet:  # taken as right: the clause of that message tells it
            continue
        except NotApplicable:
            if target.grpc is None:
                raise
            continue
        if status is not wrong.code:
            bad[wrong.id] = status.name
    expect(not bad, "INVALID_ARGUMENT, NOT_FOUND of what is unknown", bad)


def _first(**changes: Any) -> Callable[[Any, Target], None]:
    def edit(message: Any, _: Target) -> None:
        for key, value in changes.items():
            setattr(message.inputs[0], key, value)

    return edit


def _shape(change: Callable[[list[int]], list[int]]) -> Callable[[Any, Target], None]:
    def edit(message: Any, _: Target) -> None:
        message.inputs[0].shape[:] = change(list(message.inputs[0].shape))

    return edit


def _raw(change: Callable[[bytes], bytes]) -> Callable[[Any, Target], None]:
    def edit(message: Any, _: Target) -> None:
        message.raw_input_contents[0] = change(message.raw_input_contents[0])

    return edit


def _both(message: Any, target: Target) -> None:
    message.inputs[0].CopyFrom(request(target, raw=False).inputs[0])


def _same_output_twice(message: Any, target: Target) -> None:
    for _ in range(2):
        message.outputs.add(name=target.outputs[0])


def _unknown_version(message: Any, target: Target) -> None:
    unknown = max(target.versions) + "987654321"
    message.model_version = unknown


#: What is wrong with a ``ModelInferRequest``.
WRONG_GRPC = (
    WrongMessage(
        "unknown-model", "a model that it has not",
        lambda message, _: setattr(message, "model_name", UNKNOWN), code=grpc.StatusCode.NOT_FOUND,
    ),
    WrongMessage(
        "unknown-version", "a version that the model has not", _unknown_version,
        code=grpc.StatusCode.NOT_FOUND,
    ),
    WrongMessage("unknown-input", "an input that the model has not", _first(name=UNKNOWN)),
    WrongMessage("no-inputs", "a request without inputs",
                 lambda message, _: message.ClearField("inputs")),
    WrongMessage("unknown-datatype", "a datatype that does not exist", _first(datatype="FP8")),
    WrongMessage("negative-dimension", "a negative dimension", _shape(lambda s: [-1, *s[1:]])),
    WrongMessage("wrong-rank", "one dimension more than the model has", _shape(lambda s: [1, *s])),
    WrongMessage("short-tensor", "less data than the shape has", _raw(lambda data: data[:-1])),
    WrongMessage("long-tensor", "more data than the shape has", _raw(lambda data: data + b"\0")),
    WrongMessage("missing-tensor", "fewer raw tensors than inputs",
                 lambda message, _: message.raw_input_contents.pop()),
    WrongMessage("extra-tensor", "more raw tensors than inputs",
                 lambda message, _: message.raw_input_contents.append(b"")),
    WrongMessage("raw-and-typed", "an input both raw and typed", _both),
    WrongMessage("unknown-output", "an output that the model has not",
                 lambda message, _: message.outputs.add(name=UNKNOWN)),
    WrongMessage("duplicate-output", "the same output asked for twice",
                 _same_output_twice, "should"),
)  # fmt: skip
