"""The Open Inference Protocol v2 as a table: every clause that the suite checks.

Sources: ``inference_rest.md``, ``open_inference_rest.yaml`` and ``open_inference_grpc.proto`` of
kserve/open-inference-protocol; ``extension_{binary_data,model_repository,statistics,
classification}.md`` of triton-inference-server/server.

Where the sources are silent or contradict each other, the clause is a ``should`` or takes every
reading:

- An element of the wrong type may be coerced or refused. Text for a number cannot be coerced.
- Health answers may have an empty body: clients go by the status. The body of ``ready`` is once
  given with the key ``live``, which looks like a slip, so either key is taken.
- ``/v2`` in the text is ``/v2/`` in the OpenAPI file, which lists versioned paths only.
- An example declares shape [3] for one element; the text asks for every element.
- BF16 is no datatype of the protocol but of Triton. FP16 and BF16 in JSON may be refused.
- JSON has neither NaN nor a stated precision: a server may refuse, but not send what is not JSON.
- The status of a model that is not ready and whether an error repeats the id are left open, so no
  clause asks for them.
"""

from __future__ import annotations

from edgekit.conformance import binary, extensions, rest, rpc
from edgekit.conformance.clause import Clause
from edgekit.conformance.wrong import WRONG_BINARY, WRONG_JSON, refusal

__all__ = ["CLAUSES"]

_BINARY = "binary_tensor_data"
_REPOSITORY = "model_repository"
_STATISTICS = "statistics"
_CLASSES = "classification"

_CORE = (
    Clause("rest/server-metadata", "must",
           "GET v2 gives the server's name, version and list of extensions",
           rest.server_metadata),
    Clause("rest/server-metadata-slash", "should",
           "GET v2/ gives the same, as the OpenAPI file has it", rest.slash),
    Clause("rest/live", "must", "GET v2/health/live answers 200 while it can answer requests",
           rest.ok("/v2/health/live")),
    Clause("rest/ready", "must", "GET v2/health/ready answers 200 once every model is ready",
           rest.ok("/v2/health/ready")),
    Clause("rest/live-body", "should", "A body of v2/health/live says 'live'",
           rest.health_body("/v2/health/live")),
    Clause("rest/ready-body", "should", "A body of v2/health/ready says 'ready' or 'live'",
           rest.health_body("/v2/health/ready")),
    Clause("rest/ready-means-every-model", "must",
           "A server is ready only while every model that it calls ready is",
           rest.ready_means_every_model),
    Clause("rest/model-metadata", "must",
           "GET v2/models/NAME gives name, platform, inputs, outputs and, if any, versions",
           rest.model_metadata),
    Clause("rest/tensor-metadata", "must",
           "Each input and output has a name, a known datatype and a shape, -1 where it varies",
           rest.tensor_metadata),
    Clause("rest/version-metadata", "must",
           "Each listed version has its metadata under v2/models/NAME/versions/VERSION",
           rest.version_metadata),
    Clause("rest/model-ready", "must", "GET v2/models/NAME/ready answers 200 while it is ready",
           rest.ok("{model}/ready")),
    Clause("rest/model-ready-body", "should",
           "A body of v2/models/NAME/ready has the model's name and 'ready'",
           rest.model_ready_body),
    Clause("rest/infer", "must", "POST v2/models/NAME/infer answers with model_name and outputs",
           rest.infer),
    Clause("rest/infer-version", "must",
           "Each listed version can be asked for, and the response names it", rest.every_version),
    Clause("rest/model-version", "must",
           "A response has a model_version where the model has versions", rest.model_version),
    Clause("rest/output-tensors", "must",
           "Each output has the datatype and shape of the metadata, and as much data",
           rest.output_tensors),
    Clause("rest/outputs-all", "must", "A request without 'outputs' gets all outputs",
           rest.outputs_all),
    Clause("rest/outputs-chosen", "must", "A request with 'outputs' gets those only",
           rest.outputs_chosen),
    Clause("rest/id-echoed", "must", "A response repeats the id of its request",
           rest.id_is_echoed),
    Clause("rest/id-not-made-up", "should", "A response has no id where the request had none",
           rest.id_is_not_made_up),
    Clause("rest/nested-data", "must", "Data may be nested or flat, with the same result",
           rest.data_may_be_nested),
    Clause("rest/batch-shape", "must", "The shape of an input is that of the whole batch",
           rest.shape_is_the_batch),
    Clause("rest/parameters", "should",
           "Parameters that it does not know, of text, number and boolean, change nothing",
           rest.parameters_are_taken),
    Clause("rest/int64-exact", "should", "Whole numbers beyond 2^53 keep their value in JSON",
           rest.int64_is_exact),
    Clause("rest/nan-is-valid-json", "should",
           "An answer with NaN is an error or another valid JSON", rest.nan_is_valid_json),
    Clause("rest/sixteen-bit-json", "should",
           "FP16 and BF16 in JSON are refused with a 4xx, or taken right", rest.sixteen_bit_json),
)  # fmt: skip

_ERRORS = (
    Clause("rest/error-bodies", "must",
           'Each failed inference has a body of {"error": "..."}', rest.error_bodies),
    Clause("rest/error-body-of-a-path", "should",
           "So has a path that does not exist", rest.error_body_of_a_path),
    Clause("rest/error-body-of-a-method", "should",
           "So has a method that a path does not take", rest.error_body_of_a_method),
    Clause("rest/client-errors-are-4xx", "should",
           "What the client did wrong is a 4xx, not a 5xx", rest.client_errors_are_4xx),
    Clause("rest/unknown-is-404", "should", "A model that it has not is a 404",
           rest.unknown_is_404),
)  # fmt: skip

_BINARY_TENSORS = (
    Clause("binary/inputs", "extension",
           "Inputs may follow the JSON: little-endian, row-major, one behind the other",
           binary.inputs, _BINARY),
    Clause("binary/inputs-mixed", "extension",
           "Some inputs may be in the JSON and some behind it", binary.inputs_mixed, _BINARY),
    Clause("binary/no-tail", "extension",
           "The header may give the whole body's length", binary.whole_body_of_json, _BINARY),
    Clause("binary/bytes", "extension",
           "Each element of BYTES has its length before it, as a uint32",
           binary.bytes_elements, _BINARY),
    Clause("binary/response-header", "extension",
           "A response with binary outputs has the header and its whole length",
           binary.response_header, _BINARY),
    Clause("binary/output-default", "extension",
           "binary_data_output asks for all outputs in binary, each with its size",
           binary.default_for_all, _BINARY),
    Clause("binary/output-one", "extension", "binary_data asks for one output in binary",
           binary.one_output, _BINARY),
    Clause("binary/output-overrides", "extension",
           "binary_data of an output wins over binary_data_output", binary.one_overrides, _BINARY),
    Clause("binary/outputs-mixed", "extension",
           "Some outputs may be in the JSON and some behind it", binary.outputs_mixed, _BINARY),
    Clause("binary/json-unless-asked", "extension",
           "Outputs are in JSON where nothing asks for binary", binary.json_unless_asked, _BINARY),
    Clause("binary/raw-request", "extension",
           "With a header of 0 the body is the one input, and all outputs are binary",
           binary.raw_request, _BINARY),
)  # fmt: skip

_MODEL_REPOSITORY = (
    Clause("repository/index", "extension",
           "POST v2/repository/index lists name, state, reason and, if any, version",
           extensions.index, _REPOSITORY),
    Clause("repository/index-has-the-model", "extension", "A ready model is listed as READY",
           extensions.index_has_the_model, _REPOSITORY),
    Clause("repository/index-ready", "extension", "'ready' leaves the others out",
           extensions.index_ready, _REPOSITORY),
    Clause("repository/index-without-body", "should", "An empty body asks for the whole index",
           extensions.index_without_body, _REPOSITORY),
    Clause("repository/load-unknown", "extension",
           "Loading a model that it has not fails with an error",
           extensions.repository_unknown, _REPOSITORY),
    Clause("repository/load-outside", "extension",
           "No name of a model leads out of the repository", extensions.traversal, _REPOSITORY),
    Clause("repository/unload-and-load", "extension",
           "An unloaded model answers errors until it is loaded again",
           extensions.unload_and_load, _REPOSITORY),
    Clause("repository/failed-load", "should",
           "A load whose body is not JSON fails and leaves the model as it was",
           extensions.failed_load_keeps_serving, _REPOSITORY),
    Clause("repository/reload-loses-nothing", "should",
           "Requests are answered while their model is loaded again",
           extensions.reload_loses_nothing, _REPOSITORY),
)  # fmt: skip

_STATISTICS_AND_CLASSES = (
    Clause("statistics/model", "extension",
           "GET v2/models/NAME/stats gives counts, and durations as count and ns",
           extensions.stats, _STATISTICS),
    Clause("statistics/everywhere", "extension",
           "Also of all models, and of one version", extensions.stats_everywhere, _STATISTICS),
    Clause("statistics/batches", "extension",
           "batch_stats has the executions of each batch size",
           extensions.stats_batches, _STATISTICS),
    Clause("statistics/successes", "extension",
           "An inference adds to inference_count and success",
           extensions.stats_count_successes, _STATISTICS),
    Clause("statistics/unknown-model", "extension", "A model that it has not is an error",
           extensions.stats_unknown, _STATISTICS),
    Clause("classification/best", "extension",
           'The parameter gives the n best of a row as BYTES "value:index[:label]"',
           extensions.classes, _CLASSES),
    Clause("classification/binary", "extension", "Also as a binary tensor",
           extensions.classes_in_binary, _CLASSES),
    Clause("classification/refuses-nonsense", "should",
           "A negative count, or one that is no number, is refused",
           extensions.classes_refused, _CLASSES),
)  # fmt: skip

_GRPC = (
    Clause("grpc/health", "must", "ServerLive, ServerReady and ModelReady say true", rpc.health),
    Clause("grpc/server-metadata", "must", "ServerMetadata says what v2 says",
           rpc.server_metadata),
    Clause("grpc/model-metadata", "must", "ModelMetadata says what v2/models/NAME says",
           rpc.model_metadata),
    Clause("grpc/infer-raw", "must", "ModelInfer takes raw tensors and gives REST's values",
           rpc.infer_raw),
    Clause("grpc/infer-typed", "must", "ModelInfer takes typed contents and gives REST's values",
           rpc.infer_typed),
    Clause("grpc/infer-version", "must", "Each listed version can be asked for", rpc.versions),
    Clause("grpc/id-echoed", "must", "A response repeats the id of its request",
           rpc.id_is_echoed),
    Clause("grpc/outputs-chosen", "must", "A request with outputs gets those only",
           rpc.outputs_chosen),
    Clause("grpc/compressed", "should", "Requests may be compressed with gzip and deflate",
           rpc.compressed),
    Clause("grpc/status-codes", "should",
           "A wrong request is INVALID_ARGUMENT, an unknown model or version NOT_FOUND",
           rpc.status_codes),
    Clause("grpc/streaming", "should",
           "ModelStreamInfer, which is Triton's, answers each request in order", rpc.streaming),
    Clause("grpc/streaming-survives", "should",
           "An error on the stream is one answer, not its end", rpc.streaming_survives),
    Clause("grpc/repository-index", "extension", "RepositoryIndex lists the model as READY",
           rpc.index, _REPOSITORY),
    Clause("grpc/statistics", "extension", "An inference adds to ModelStatistics",
           rpc.statistics, _STATISTICS),
    Clause("grpc/classification", "extension", "The parameter gives the best class",
           rpc.classes, _CLASSES),
)  # fmt: skip

#: Every clause, in the order in which the suite checks them.
CLAUSES: tuple[Clause, ...] = (
    *_CORE,
    *(refusal(wrong, "rest") for wrong in WRONG_JSON),
    *_ERRORS,
    *_BINARY_TENSORS,
    *(refusal(wrong, "binary", _BINARY) for wrong in WRONG_BINARY),
    *_STATISTICS_AND_CLASSES,
    *_GRPC,
    *(rpc.wrong_message(wrong) for wrong in rpc.WRONG_GRPC),
    *_MODEL_REPOSITORY,  # last: it may unload the model
)
