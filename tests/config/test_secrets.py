"""URLs that carry secrets are refused where settings are read, without repeating them."""

import pytest

from metro_ray.config.load import load_config
from metro_ray.config.secrets import has_secret
from metro_ray.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        "ftp://me:hunter2@host/run",
        "s3://AKIA:hunter2@bucket/run",
        "https://store/run?X-Amz-Signature=hunter2",
        "https://store/run?a=1&sig=hunter2&b=2",
        "abfs://c@account/run?token=hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_by_its_key_alone(text):
    assert has_secret(text)
    for key in ("run.upload_to", "data.train_yaml"):
        with pytest.raises(ConfigError, match=f"{key} is a URL with a password") as refusal:
            load_config("body", overrides={key: text})
        assert "hunter2" not in str(refusal.value)
    with pytest.raises(ConfigError) as refusal:
        load_config("body", overrides={"run.upload_to": text, "optim.lr": -1})
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/run",
        "abfs://container@account.dfs.core.windows.net/run",
        "sftp://me@host:2222/run",
        "https://host:8080/train.yaml?version=3",
        "/shared/a:b@c/train.yaml",
    ],
)
def test_other_places_pass(text):
    assert not has_secret(text)
    assert load_config("body", overrides={"run.upload_to": text}).run.upload_to == text
