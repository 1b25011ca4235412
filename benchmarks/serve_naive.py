"""What one would write in an afternoon: FastAPI around a float32 network, an image a request.

    python benchmarks/serve_naive.py CHECKPOINT --port 8001

`POST /v1/body` decodes, predicts and answers NPZ in FastAPI's thread pool; `POST /one` does the
same on the event loop, one request after the other.
"""

import argparse
import io
from pathlib import Path

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response

from metro_ray.inference import Predictor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("checkpoint", type=Path)
parser.add_argument("--port", type=int, required=True)


def application(checkpoint: Path) -> FastAPI:
    """The service."""
    predictor, app = Predictor.from_checkpoint(checkpoint, precision="fp32"), FastAPI()

    def answer(body: bytes) -> Response:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB)
        (result,) = predictor.predict([image])
        file = io.BytesIO()
        np.savez(file, vertices=result.vertices, joints=result.joints, camera=result.camera)
        return Response(file.getvalue(), media_type="application/x-npz")

    @app.post("/one")
    async def one(request: Request) -> Response:
        return answer(await request.body())

    @app.post("/v1/body")
    async def pooled(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        return await run_in_threadpool(answer, await request.body())

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    return app


if __name__ == "__main__":
    given = parser.parse_args()
    uvicorn.run(application(given.checkpoint), host="127.0.0.1", port=given.port, log_level="error")
