"""What becomes of a request whose replica dies or is full."""

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError

from metro_ray.serve.app import ServeEngine, build_app
from metro_ray.serve.engine import Overloaded


def engine_of(*outcomes):
    """An engine whose replicas do this, one call after the other; and the calls."""
    calls, left = [], list(outcomes)

    async def answer():
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def remote(ask):
        calls.append(ask)
        return answer()

    return ServeEngine(SimpleNamespace(predict=SimpleNamespace(remote=remote))), calls


def test_what_a_dead_replica_had_in_work_is_asked_of_another():
    engine, calls = engine_of(ActorDiedError(), ActorUnavailableError("gone", None), "the reply")
    assert asyncio.run(engine.predict("an ask")) == "the reply"
    assert calls == ["an ask"] * 3


def test_a_request_that_loses_every_replica_is_told_to_come_again():
    engine, calls = engine_of(*[ActorDiedError() for _ in range(9)])
    with pytest.raises(Overloaded, match="3 replicas were lost"):
        asyncio.run(engine.predict("an ask"))
    assert len(calls) == 3


def test_full_replicas_are_not_asked_again():
    engine, calls = engine_of(BackPressureError(num_queued_requests=9, max_queued_requests=9), "no")
    with pytest.raises(Overloaded, match="queue is full"):
        asyncio.run(engine.predict("an ask"))
    assert len(calls) == 1


def test_a_replica_takes_all_that_the_ingresses_let_in():
    """What it does not take waits in Ray's router, which pauses while the network idles."""
    args = {"body": {"checkpoint": "/x"}, "ingress": {"replicas": 3}, "limits": {"max_pending": 50}}
    [model] = build_app(args)._bound_deployment.init_kwargs.values()
    assert model._bound_deployment.max_ongoing_requests >= 3 * 50
