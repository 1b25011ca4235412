"""An S3-compatible server on loopback."""

from contextlib import contextmanager

import pytest


@contextmanager
def s3_bucket(name):
    """URL of a bucket; while it lasts, the environment names the server and has its keys."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket=name)
        yield f"s3://{name}"
    S3FileSystem.clear_instance_cache()
    server.stop()
