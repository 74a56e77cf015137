"""schemathesis asks a server by its description: examples, the bounds of each field, and random good and bad requests.

No answer is a failure of the server, and each has a status, a type and a body as the description says.
"""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from served import load, serving

from align.serve.limits import Limits
from align.serve.openapi import describe

LIMITS = Limits(body=1 << 20, bodies=4 << 20, decode_seconds=5.0, decode_memory=512 << 20, decoders=1)
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
"""Those of answers. A request that fits the schema may be refused, as its modality is none of ours, and null is taken
for a field that is absent, which the schema does not say."""
schema = schemathesis.openapi.from_dict(describe(LIMITS), config=schemathesis.config.SchemathesisConfig(seed=0))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(load(tmp_path_factory.mktemp("schema"), LIMITS), LIMITS) as (url, _):
        assert httpx.get(f"{url}/openapi.json").json() == describe(LIMITS)
        yield url


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
def test_an_answer_is_as_described(case, address):
    case.call_and_validate(base_url=address, checks=CHECKS, timeout=30)
