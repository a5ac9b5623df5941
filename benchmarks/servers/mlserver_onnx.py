"""MLServer with ONNX Runtime as a runtime of its own, in MLServer's process (no parallel workers).

Its REST takes JSON only, so a tensor is a list of numbers (``FP32``) or base64 (``BYTES``).
"""

from __future__ import annotations

import asyncio
import base64

import numpy as np
from _common import job, session
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput


class Onnx(MLModel):
    async def load(self) -> bool:
        self._engine = session(self.settings.parameters.uri)
        (spec,) = self._engine.get_inputs()
        self._input, self._shape = spec.name, spec.shape[1:]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (y,) = self._engine.run(None, {self._input: self._tensor(payload.inputs[0])})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])

    def _tensor(self, given: RequestInput):
        if given.datatype == "BYTES":
            data = b"".join(base64.b64decode(row) for row in given.data.root)
            return np.frombuffer(data, np.float32).reshape(-1, *self._shape)
        return np.array(given.data.root, np.float32).reshape(given.shape)


async def main() -> None:
    given = job(__doc__)
    settings = Settings(
        host="127.0.0.1", http_port=given.port, grpc_port=given.port + 1,
        metrics_port=given.port + 2, parallel_workers=0, debug=False, logging_settings=None,
    )  # fmt: skip
    model = ModelSettings(
        name="model",
        implementation=Onnx,
        parameters=ModelParameters(uri=str(given.model)),
        max_batch_size=given.batch,
        max_batch_time=given.delay,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
