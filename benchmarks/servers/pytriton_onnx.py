"""Triton through PyTriton: Triton's own HTTP and batcher, ONNX Runtime in PyTriton's process."""

from __future__ import annotations

import numpy as np
from _common import job, session
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    given = job(__doc__)
    engine = session(given.model)
    (spec,), (result,) = engine.get_inputs(), engine.get_outputs()

    @batch
    def infer(x):
        (y,) = engine.run(None, {spec.name: x})
        return [y]

    config = TritonConfig(
        http_address="127.0.0.1", http_port=given.port, allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=tuple(spec.shape[1:]))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=tuple(result.shape[1:]))],
            config=ModelConfig(
                max_batch_size=given.batch,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(given.delay * 1e6)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
