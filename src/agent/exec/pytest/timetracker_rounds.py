"""Tells the agent which tests failed, and leaves out what has passed when the agent runs the script again.

The agent runs a script in rounds. In each, every pytest of the script (a session) appends what became of its tests to
the round's file; in a later round it runs only what it has not passed or skipped before. A session is known by its
place among those of its round and by its arguments: one that is not recognised runs all its tests. Tests stand there
as digests of their node ids, which may be of any bytes and any length.

Without the agent's variable, as in processes that tests start, nothing is done.
"""

import dataclasses
import hashlib
import json
import os

import pytest

_VARIABLE = "TIMETRACKER_ROUND"
_NOTHING_COLLECTED = 5


def _round(value):
    number, _, folder = value.partition(":")
    return int(number), folder


def _digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _lines(folder, number):
    try:
        with open(os.path.join(folder, f"round-{number}"), encoding="ascii", errors="replace") as file:
            return [line.split() for line in file]
    except OSError:
        return []


def _passed_before(folder, number, session):
    """The tests that this session need not run: what failed in a round counts as failed until it passes later."""
    passed = set()
    for earlier in range(number):
        said = {"passed": set(), "failed": set()}
        for words in _lines(folder, earlier):
            if len(words) == 3 and words[0] in said and words[1] == session:
                said[words[0]].add(words[2])
        passed = (passed | said["passed"]) - said["failed"]
    return passed


class _Selection:
    """Leaves out what has passed: where tests are collected, so in the workers of pytest-xdist too."""

    def __init__(self, folder, number, session):
        self.passed = _passed_before(folder, number, session)
        self.left_out = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        left_out = [item for item in items if _digest(item.nodeid) in self.passed]
        self.left_out = len(left_out)
        if left_out:
            items[:] = [item for item in items if _digest(item.nodeid) not in self.passed]
            config.hook.pytest_deselected(items=left_out)
        if hasattr(config, "workeroutput"):
            config.workeroutput["timetracker_left_out"] = self.left_out


class _Recorder:
    """Writes down what became of the tests: where reports come together."""

    def __init__(self, config, value):
        self.value = value
        self.number, self.folder = _round(value)
        place = sum(1 for words in _lines(self.folder, self.number) if words[:1] == ["begin"])
        # Each round has a folder of its own for reports, which is no difference.
        reports = os.environ.get("REPORTS") or "$REPORTS"
        first = os.path.dirname(reports) if self.number > 0 else reports
        given = [str(argument) for argument in config.invocation_params.args]
        arguments = [argument.replace(reports, "$REPORTS").replace(first, "$REPORTS") for argument in given]
        self.session = _digest(json.dumps([place, os.getcwd(), arguments]))
        self.failed = set()
        self.failures = 0
        self.left_out = 0
        self.file = open(os.path.join(self.folder, f"round-{self.number}"), "ab", buffering=0)
        self.write("begin")
        self.selection = _Selection(self.folder, self.number, self.session)

    def write(self, word, *more):
        line = " ".join([word, self.session, *map(str, more)])
        try:
            self.file.write(f"{line}\n".encode("ascii"))
        except OSError:
            # Without its end the session is not believed, and nothing is run again.
            pass

    def pytest_runtest_logreport(self, report):
        if report.failed and not hasattr(report, "wasxfail"):
            self.failures += 1
            self.failed.add(report.nodeid)
            self.write("failed", _digest(report.nodeid))
        elif report.when == "teardown" and report.nodeid not in self.failed:
            self.write("passed", _digest(report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node):
        node.workerinput["timetracker_round"] = [self.folder, self.number, self.session]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        output = getattr(node, "workeroutput", None) or {}
        self.left_out = max(self.left_out, output.get("timetracker_left_out", 0))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        yield
        # All of them have passed before.
        if session.exitstatus == _NOTHING_COLLECTED and max(self.left_out, self.selection.left_out) > 0:
            session.exitstatus = 0
        # What failed beside tests: a file that can't be collected, a threshold of coverage.
        others = max(session.testsfailed - self.failures, 0)
        self.write("end", int(session.exitstatus), others)

    def pytest_unconfigure(self):
        self.file.close()
        # For the next session of the same process.
        os.environ[_VARIABLE] = self.value


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(early_config):
    # What is run again covers little: the coverage is the first round's. Here pytest-cov looks whether it is wanted.
    if not os.environ.get(_VARIABLE, "0:").startswith("0:"):
        early_config.known_args_namespace.no_cov = True
    yield


def pytest_configure(config):
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        if "timetracker_round" in worker:
            config.pluginmanager.register(_Selection(*worker["timetracker_round"]))
        return
    value = os.environ.pop(_VARIABLE, None)
    if value is None:
        return
    try:
        recorder = _Recorder(config, value)
        if recorder.number > 0 and config.pluginmanager.hasplugin("_cov"):
            # From these the workers of pytest-xdist are started.
            given = config.invocation_params
            config.invocation_params = dataclasses.replace(given, args=(*given.args, "--no-cov"))
    except (AttributeError, OSError, TypeError, ValueError):
        # Not for a pytest of long ago.
        return
    config.pluginmanager.register(recorder)
    config.pluginmanager.register(recorder.selection)
