"""LitServe with ONNX Runtime, with its faster queue and one worker.

It takes JSON only, so a tensor is a list of numbers (``data``) or base64 (``b64``).
"""

from __future__ import annotations

import base64

import litserve
import numpy as np
from _common import Job, job, session


class Api(litserve.LitAPI):
    def __init__(self, given: Job) -> None:
        super().__init__(max_batch_size=given.batch, batch_timeout=given.delay)
        self._model = given.model

    def setup(self, device: str) -> None:  # noqa: ARG002, LitServe calls it so
        self._engine = session(self._model)
        (spec,) = self._engine.get_inputs()
        self._name, self._shape = spec.name, spec.shape[1:]

    def decode_request(self, request: dict):
        if packed := request.get("b64"):
            return np.frombuffer(base64.b64decode(packed), np.float32).reshape(self._shape)
        return np.array(request["data"], np.float32).reshape(self._shape)

    def batch(self, inputs: list):
        return np.stack(inputs)

    def unbatch(self, output):
        return list(output)

    def predict(self, x):
        single = x.ndim == len(self._shape)
        (y,) = self._engine.run(None, {self._name: x[None] if single else x})
        return y[0] if single else y

    def encode_response(self, output) -> dict:
        return {"data": output.tolist()}


if __name__ == "__main__":
    given = job(__doc__)
    server = litserve.LitServer(Api(given), accelerator="cpu", fast_queue=True, timeout=60)
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)
