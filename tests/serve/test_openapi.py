"""Requests made from the API's own document, right and wrong ones: answers are as it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from live import running
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from served import local_args

from metro_ray.serve.api import create_api

# What schemathesis draws its wrong values with.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

OPERATIONS = (
    "POST /v1/body", "POST /v1/hand", "POST /v1/jobs", "GET /v1/jobs/{job_id}", "DELETE /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/result", "GET /v1/models", "GET /v1/models/{task}/faces", "GET /healthz", "GET /readyz", "GET /metrics",
)  # fmt: skip
NOT_CHECKED = ("positive_data_acceptance",)
"""A document can say that a field is an image, a box or base64, not what makes a good one."""
FEW, MANY = 30, 700


@pytest.fixture(scope="module")
def served(engines, body_checkpoint, hand_checkpoint, tmp_path_factory):
    """The document, and the URL of a server that it describes."""
    jobs = {"folder": str(tmp_path_factory.mktemp("jobs")), "max_queued": 10_000}
    api = create_api(engines, local_args(body=body_checkpoint, hand=hand_checkpoint, jobs=jobs))
    with running(api) as url:
        yield schemathesis.openapi.from_dict(api.openapi()), url


def is_sent_as_drawn(case):
    """An empty list in a form is no part at all, so that nothing wrong is left of it."""
    is_form = (case.media_type or "").startswith("multipart/") and isinstance(case.body, dict)
    return not (is_form and any(value == [] for value in case.body.values()))


def check_answers(served, label, mode, number):
    schema, url = served
    (operation,) = (each.ok() for each in schema.get_all_operations() if each.ok().label == label)
    excluded = [CHECKS.get_one(name) for name in NOT_CHECKED]

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        assume(is_sent_as_drawn(case))
        case.call_and_validate(base_url=url, excluded_checks=excluded)

    ask()


def test_every_operation_is_asked(served):
    assert {each.ok().label for each in served[0].get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(
    "number", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.timeout(600)
def test_what_the_document_allows(served, label, number):
    check_answers(served, label, GenerationMode.POSITIVE, number)


@pytest.mark.parametrize(
    "number", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "label", [label for label in OPERATIONS if label.startswith("POST") or "{task}" in label]
)
@pytest.mark.timeout(600)
def test_what_the_document_does_not_allow(served, label, number):
    check_answers(served, label, GenerationMode.NEGATIVE, number)
