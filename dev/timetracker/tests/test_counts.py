"""The suite counts itself: a lane that collects nothing would prove nothing."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PRIMARY = {
    "smoke": 13,
    "unit": 40,
    "integration": 30,
    "security": 25,
    "database": 15,
    "api": 14,
}
SECONDARY = {
    "models": 20,
    "routes": 18,
    "utils": 14,
    "auth": 7,
    "timer": 8,
    "projects": 7,
    "invoices": 8,
    "schema": 4,
    "migrations": 5,
    "relationships": 3,
    "constraints": 3,
    "authentication": 5,
    "authorization": 6,
    "csrf": 4,
    "xss": 5,
    "sqli": 5,
}
LANES = [
    *({name} for name in PRIMARY),
    *({"unit", group} for group in ("models", "routes", "utils")),
    *({"integration", group} for group in ("auth", "timer", "projects", "invoices")),
]


@pytest.mark.unit
@pytest.mark.utils
def test_every_lane_collects_the_tests_that_it_promises(tmp_path):
    target = tmp_path / "census.json"
    subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cov"]
        + ["-p", "no:cacheprovider"],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "MARKER_CENSUS": str(target), "PYTEST_ADDOPTS": ""},
        check=True,
        capture_output=True,
    )
    tests = [set(markers) for markers in json.loads(target.read_text()).values()]
    counts = Counter(marker for markers in tests for marker in markers)

    assert len(tests) == sum(PRIMARY.values()) == 137
    assert all(len(markers & PRIMARY.keys()) == 1 for markers in tests)
    assert {name: counts[name] for name in PRIMARY} == PRIMARY
    assert {name: counts[name] for name in SECONDARY} == SECONDARY
    assert all(any(lane <= markers for markers in tests) for lane in LANES)
