"""Worker: requests and answers without a process."""

import io
import json
import pickle
import struct

import pytest

from xft.sandbox import worker


def _request(source: str, **variables: object) -> bytes:
    return pickle.dumps((source, variables))


def test_worker_answers_requests_until_the_end_of_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.resource, "setrlimit", lambda *limits: None)
    requests = [_request("{{ a }}", a="ä"), _request("{{ raise_exception('no') }}"), _request("{% if %}")]
    stdin = io.BytesIO(b"".join(struct.pack("!Q", len(request)) + request for request in requests))
    stdout = io.BytesIO()
    worker.main(stdin, stdout)
    ready, *answers = stdout.getvalue().splitlines()
    assert ready == b"ready"
    assert json.loads(answers[0]) == {"text": "ä"}
    assert json.loads(answers[1]) == {"error": "no"}
    assert set(json.loads(answers[2])) == {"error"}


def test_text_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_TEXT", 3)
    assert json.loads(worker.render(_request("abc"))) == {"text": "abc"}
    assert set(json.loads(worker.render(_request("abcd")))) == {"error"}


@pytest.mark.parametrize(("hard", "soft"), [(worker.resource.RLIM_INFINITY, 20), (30, 20), (10, 10)])
def test_limit_stays_within_the_hard_limit(hard: int, soft: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(worker.resource, "getrlimit", lambda kind: (hard, hard))
    monkeypatch.setattr(worker.resource, "setrlimit", lambda *arguments: limits.append(arguments))
    worker.limit(worker.resource.RLIMIT_CPU, 20)
    assert limits == [(worker.resource.RLIMIT_CPU, (soft, hard))]
