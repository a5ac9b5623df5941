"""Plain FastAPI, as fast as it is without more code: the engine runs in the event loop itself.

``/json`` takes and gives the tensors of the Open Inference Protocol's JSON, ``/raw`` bytes.
"""

from __future__ import annotations

import numpy as np
import uvicorn
from _common import job, session
from fastapi import FastAPI, Request, Response


def create_app(given) -> FastAPI:
    app = FastAPI()
    engine = session(given.model)
    (spec,) = engine.get_inputs()
    shape = [1, *spec.shape[1:]]

    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.post("/json")
    async def from_json(request: Request) -> dict:
        (tensor,) = (await request.json())["inputs"]
        x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        (y,) = engine.run(None, {spec.name: x})
        return {"outputs": [{"name": "y", "shape": y.shape, "data": y.ravel().tolist()}]}

    @app.post("/raw")
    async def from_bytes(request: Request) -> Response:
        x = np.frombuffer(await request.body(), np.float32).reshape(shape)
        (y,) = engine.run(None, {spec.name: x})
        return Response(y.tobytes(), media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    given = job(__doc__)
    uvicorn.run(create_app(given), port=given.port, log_level="warning")
