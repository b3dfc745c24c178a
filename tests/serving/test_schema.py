"""Whatever a client sends that the description allows, or nearly allows: no answer says that the server is at fault."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from .conftest import LiveServer

pytestmark = pytest.mark.slow


def test_no_answer_is_the_servers_fault(live: LiveServer) -> None:
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15, "the description names what the server does"
    for operation in operations:
        if operation.path.endswith("/events"):  # streams that end with their jobs
            continue

        @_SETTINGS
        @given(case=operation.as_strategy())
        def no_fault(case: Any) -> None:
            _no_fault(case)

        no_fault()


def _no_fault(case: Any) -> None:
    if isinstance(case.body, dict):
        case.body.pop("stream", None)
    answer = case.call(headers={"Prefer": "respond-async"})
    assert answer.status_code < 500 or answer.status_code == 503, f"{case.method} {case.path}: {answer.text}"
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]


_SETTINGS = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
)
