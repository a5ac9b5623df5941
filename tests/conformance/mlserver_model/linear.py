"""A model for MLServer, whose own interpreter imports this: two inputs, two outputs."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 12


class Linear(MLModel):
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = {entry.name: NumpyCodec.decode_input(entry) for entry in payload.inputs}
        outputs = {"y": feeds["x"] @ WEIGHT, "next": feeds["index"] + 1}
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, array) for name, array in outputs.items()],
        )
