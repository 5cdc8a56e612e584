"""An OpenAI-compatible endpoint: addresses, both shapes of answers, every fault of a network; and llama.cpp's real server."""

from __future__ import annotations

import dataclasses
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import apr
import tiny
from apr.engines import _endpoint_http, openai
from apr.engines._subject import Subject
from apr.errors import EngineError, UsageError
from apr.reports import json as report_json
from endpoint_imitation import Imitation, Reply

USER = [{"role": "user", "content": "What is 2+2?"}]
COMPLETION: dict[str, Any] = {
    "choices": [
        {
            "text": " 4.",
            "finish_reason": "stop",
            "logprobs": {
                "tokens": [" 4", "."],
                "token_logprobs": [-0.1, -0.2],
                "top_logprobs": [{" 5": -3.0, " 4": -0.1}, {".": -0.2}],
                "text_offset": [0, 2],
            },
        }
    ],
    "system_fingerprint": "b123",
}
CHAT: dict[str, Any] = {
    "choices": [
        {
            "message": {"role": "assistant", "content": "4"},
            "finish_reason": "stop",
            "logprobs": {
                "content": [
                    {
                        "id": 20,
                        "token": "4",
                        "bytes": [52],
                        "logprob": -0.25,
                        "top_logprobs": [{"token": "4", "logprob": -0.25}, {"token": "four", "logprob": -2.0}],
                    }
                ]
            },
        }
    ]
}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(openai.KEY_VARIABLE, raising=False)


def complete(server: Imitation, **options: Any) -> Any:
    options = {"timeout_s": 5.0, "pauses_s": (0.0, 0.0)} | options
    return openai.connect(server.address, **options).complete("2+2=", max_tokens=2)


@pytest.mark.parametrize(
    ("address", "base", "model"),
    [
        ("openai://127.0.0.1:8080/m", "http://127.0.0.1:8080/v1", "m"),
        ("openai://localhost:11434/smollm2:135m", "http://localhost:11434/v1", "smollm2:135m"),
        ("openai://[::1]:8080/m", "http://[::1]:8080/v1", "m"),
        ("openai://192.168.1.7:8000/org/model", "http://192.168.1.7:8000/v1", "org/model"),
        ("openai://vllm:8000/m", "http://vllm:8000/v1", "m"),
        ("openai://box.local/m", "http://box.local/v1", "m"),
        ("openai://10.0.0.5:443/m", "https://10.0.0.5:443/v1", "m"),
        ("openai://8.8.8.8:8000/m", "https://8.8.8.8:8000/v1", "m"),
        ("openai://api.example.com/org/model", "https://api.example.com/v1", "org/model"),
        ("openai://hub.example/api/v1/org/model", "https://hub.example/api/v1", "org/model"),
        ("openai://127.0.0.1:8080", "http://127.0.0.1:8080/v1", ""),
        ("openai://h/a%20b", "http://h/v1", "a b"),
    ],
)
def test_an_address_says_where_and_what_and_only_private_hosts_are_spoken_to_in_clear(
    address: str, base: str, model: str
) -> None:
    assert openai.parse(address) == openai.Address(base, model)


@pytest.mark.parametrize(
    "address",
    ["openai:///m", "http://h/m", "openai://h:99999/m", "openai://h:x/m", "openai://h/m?key=1", "openai://h/m#x"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected openai://HOST:PORT/MODEL"):
        openai.parse(address)


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="APR_OPENAI_API_KEY") as caught:
        openai.parse("openai://sk-secret@api.example.com/m")
    assert "sk-secret" not in str(caught.value)


def test_a_completion_is_asked_for_greedily_and_read_whole() -> None:
    with Imitation(Reply(COMPLETION)) as server:
        endpoint = openai.connect(server.address)
        answer = endpoint.complete("2+2=", max_tokens=2, seed=7)
        ((path, headers, body),) = server.requests
    assert path == "/v1/completions" and "Authorization" not in headers
    assert body == {"model": "m", "prompt": "2+2=", "max_tokens": 2, "temperature": 0, "seed": 7, "logprobs": 5}
    assert (answer.text, answer.finish_reason, answer.tokens) == (" 4.", "stop", (" 4", "."))
    assert answer.logprobs == (-0.1, -0.2) and answer.token_ids == ()
    assert answer.top == (((" 4", -0.1), (" 5", -3.0)), ((".", -0.2),)), "most likely first"
    assert (endpoint.engine, endpoint.engine_version, endpoint.model) == ("openai", "b123", "m")


def test_a_chat_is_asked_for_greedily_and_read_whole() -> None:
    with Imitation(Reply(CHAT)) as server:
        answer = openai.connect(server.address).chat(USER, max_tokens=3)
        ((path, _, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert body["messages"] == USER and body["top_logprobs"] == 5 and body["logprobs"] is True
    assert (answer.text, answer.tokens, answer.token_ids, answer.logprobs) == ("4", ("4",), (20,), (-0.25,))
    assert answer.top == ((("4", -0.25), ("four", -2.0)),)


def test_a_completion_in_the_shape_of_a_chat_and_ids_beside_the_logprobs_are_read_too() -> None:
    mixed = {"choices": [{"text": "4", "logprobs": CHAT["choices"][0]["logprobs"]}]}
    beside = {"choices": [COMPLETION["choices"][0] | {"token_ids": [11, 12]}]}
    with Imitation(Reply(mixed), Reply(beside)) as server:
        assert complete(server).token_ids == (20,)
        assert complete(server).token_ids == (11, 12)


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None, "refusal": None}])
def test_an_answer_without_logprobs_is_an_answer(logprobs: Any) -> None:
    with Imitation(Reply({"choices": [{"text": "4", "finish_reason": None, "logprobs": logprobs}]})) as server:
        answer = complete(server)
    assert (answer.text, answer.tokens, answer.logprobs, answer.top, answer.finish_reason) == ("4", (), (), (), "")


def test_a_message_without_content_is_an_empty_text() -> None:
    with Imitation(Reply({"choices": [{"message": {"content": None}, "finish_reason": "length"}]})) as server:
        assert openai.connect(server.address).chat(USER, max_tokens=1).text == ""


def test_a_server_that_is_busy_starting_or_hangs_up_is_asked_again() -> None:
    faults = [
        Reply({"error": {"message": "Loading model"}}, status=503),
        Reply(fault="reset"),
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(COMPLETION, announced=10_000),  # cut off
        Reply(COMPLETION),
    ]
    with Imitation(*faults) as server:
        assert complete(server, pauses_s=(0.0,) * 4).text == " 4."
        assert len(server.requests) == 5


def test_the_pause_that_a_server_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(_endpoint_http.time, "sleep", pauses.append)
    with Imitation(Reply(status=429, headers={"Retry-After": "7"}), Reply(status=500), Reply(COMPLETION)) as server:
        complete(server, pauses_s=(0.5, 1.0))
    assert pauses == [7.0, 1.0]


def test_a_server_that_stays_broken_is_an_error_that_counts_the_attempts() -> None:
    with Imitation(Reply({"error": {"message": "out of memory"}}, status=500)) as server:
        with pytest.raises(EngineError, match=r"answered 500 .*out of memory, and so 3 times"):
            complete(server)
        assert len(server.requests) == 3


def test_a_refusal_is_not_repeated_and_says_the_servers_words() -> None:
    with Imitation(Reply({"detail": "no model 'm'"}, status=404)) as server:
        with pytest.raises(EngineError, match=r"answered 404 .*no model 'm'"):
            complete(server)
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["mute", "drip"])
def test_an_answer_that_does_not_end_in_time_is_an_error_and_not_asked_for_again(fault: str) -> None:
    with Imitation(Reply(COMPLETION, fault=fault)) as server:
        started = time.perf_counter()
        with pytest.raises(EngineError, match=r"did not finish its answer within 0\.2 s"):
            complete(server, timeout_s=0.2)
        assert time.perf_counter() - started < 3 and len(server.requests) == 1


def test_nobody_at_the_address_is_said_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening
        with pytest.raises(EngineError, match=r"cannot be reached .*start the server"):
            openai.connect(f"openai://127.0.0.1:{held.getsockname()[1]}/m").complete("x", max_tokens=1)


def test_a_server_without_tls_where_there_must_be_some_is_said() -> None:
    with Imitation(Reply(COMPLETION)) as server:
        client = _endpoint_http.JsonClient(f"https://{server.host}/v1", "", 5.0, ())
        with pytest.raises(EngineError, match=r"no secure connection .*is it a server of https"):
            client.get("/models")


def test_a_huge_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_endpoint_http, "MAX_ANSWER_BYTES", 1000)
    for announced in (None, -1):
        with (
            Imitation(Reply(b" " * 5_000_000, announced=announced)) as server,
            pytest.raises(EngineError, match="over the limit of 1000 bytes; ask for fewer tokens"),
        ):
            complete(server)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>hello</html>", "is not JSON.*is an OpenAI-compatible server at"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "nests deeper"),
        (b'{"a":1,"a":2}', "twice"),
        (b"[]", "expected an object"),
        ({}, "no 'choices'"),
        ({"choices": []}, "0 choices"),
        ({"choices": [1]}, "expected one object"),
        ({"choices": [{}]}, "no 'text'"),
        ({"choices": [{"text": 4}]}, "expected str"),
        ({"choices": [{"text": "", "logprobs": 1}]}, "logprobs is 1, expected dict"),
        ({"choices": [{"text": "", "logprobs": {"what": [1]}}]}, "expected `content` or `tokens`"),
        ({"choices": [{"text": "", "logprobs": {"content": [{"token": "a", "logprob": "x"}]}}]}, "a log-probability"),
        ({"choices": [{"text": "", "logprobs": {"content": [{"token": "a", "logprob": 0.5}]}}]}, "at most 0"),
        ({"choices": [{"text": "", "logprobs": {"content": [{"logprob": -1}]}}]}, "no 'token'"),
        ({"choices": [{"text": "", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]}, "as many of each"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_what_it_should_be_says_what_it_is(body: Any, says: str) -> None:
    with Imitation(Reply(body)) as server, pytest.raises(EngineError, match=says):
        complete(server)


def test_a_redirection_is_not_followed() -> None:
    with (
        Imitation(Reply(COMPLETION)) as other,
        Imitation(Reply(status=307, headers={"Location": f"http://{other.host}/v1/completions"})) as server,
    ):
        with pytest.raises(EngineError, match="redirections are not followed"):
            complete(server)
        assert other.requests == []


def test_what_a_server_does_not_know_is_left_out_or_said_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    complaints = [
        Reply({"error": {"message": "logprobs are not supported"}}, status=400),
        Reply({"error": {"message": "use 'max_completion_tokens' instead"}}, status=400),
        Reply({"choices": [{"text": "4"}]}),
    ]
    with Imitation(*complaints) as server:
        endpoint = openai.connect(server.address)
        assert [endpoint.complete("2+2=", max_tokens=2).text for _ in range(2)] == ["4", "4"]
        bodies = [body for _, _, body in server.requests]
    assert "gives no log-probabilities" in caplog.text
    assert [("logprobs" in b, "max_tokens" in b) for b in bodies] == [
        (True, True),
        (False, True),
        *[(False, False)] * 2,
    ]


def test_a_refusal_of_greedy_decoding_is_an_error_and_not_worked_around() -> None:
    with Imitation(Reply({"error": {"message": "temperature must be 1"}}, status=400)) as server:
        with pytest.raises(EngineError, match="temperature must be 1"):
            complete(server)
        assert len(server.requests) == 1


def test_the_one_model_of_a_server_needs_no_name_and_several_are_listed() -> None:
    with Imitation(Reply({"data": [{"id": "a/b"}]}), Reply({"data": [{"id": "a"}, {"id": "b"}]})) as server:
        assert openai.connect(f"openai://{server.host}").model == "a/b"
        with pytest.raises(EngineError, match=r"serves 2 models, expected one; .*'a', 'b'"):
            openai.connect(f"openai://{server.host}")
        assert [path for path, _, _ in server.requests] == ["/v1/models"] * 2


def test_the_key_is_sent_to_this_machine_and_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(openai.KEY_VARIABLE, "sk-secret")
    with Imitation(Reply({"error": {"message": "bad key sk-secret"}}, status=401)) as server:
        with pytest.raises(EngineError, match=r"bad key \*\*\*; set APR_OPENAI_API_KEY") as caught:
            complete(server)
        assert server.requests[0][1]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)


def test_the_key_is_not_sent_in_clear_over_a_network(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(openai.KEY_VARIABLE, "sk-secret")
    assert openai._key_for("http://192.168.1.7:8000/v1") == ""
    assert "not sent" in caplog.text and "sk-secret" not in caplog.text
    assert openai._key_for("https://api.example.com/v1") == "sk-secret"
    monkeypatch.setenv(openai.KEY_VARIABLE, "sk\nX-Header: 1")
    with pytest.raises(UsageError, match="set it to the key alone"):
        openai._key_for("https://api.example.com/v1")


def test_the_key_is_in_no_run_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(openai.KEY_VARIABLE, "sk-secret")
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))
    with apr.load(tiny.write(tmp_path, "gguf"), engine="fake") as model:
        record = model.generate("Hello", max_tokens=2)
    assert openai.KEY_VARIABLE in record.environment and "sk-secret" not in report_json.dumps(record)


def test_a_proxy_of_the_environment_does_not_get_what_goes_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Imitation(Reply(COMPLETION)) as server:
        assert complete(server).text == " 4."


def test_an_address_is_a_subject_with_an_endpoint() -> None:
    with Imitation(Reply(CHAT)) as server, Subject.of(server.address) as subject:
        assert subject.is_endpoint and subject.capabilities == {"text", "top_logprobs"}
        assert subject.endpoint.chat(USER, max_tokens=1).text == "4"


@pytest.mark.parity
@pytest.mark.real
@pytest.mark.xdist_group("smollm2")
def test_llama_cpps_own_server_answers_in_both_ways(
    real_model: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("xllamacpp")
    from llama_oracle import LlamaCpp

    caplog.set_level(logging.WARNING)
    path = real_model("smollm2")
    with LlamaCpp(path) as server, apr.load(path, threads=1, activations="float32") as model:
        endpoint = openai.connect(server.address.replace("http://", "openai://"))
        chat = endpoint.chat(USER, max_tokens=24)
        completion = endpoint.complete("Monday, Tuesday, Wednesday,", max_tokens=6)
        ours = model.generate(USER, max_tokens=24)
        raw = model.generate("Monday, Tuesday, Wednesday,", regime="raw", max_tokens=6)
    assert caplog.records == [] and endpoint.engine_version != "unknown"
    assert chat.text == ours.text and chat.finish_reason == "stop"
    assert completion.text == raw.text and completion.token_ids == raw.output_token_ids
    for answer, record in ((chat, ours), (completion, raw)):
        assert len(answer.tokens) == len(answer.token_ids) == len(answer.logprobs) == len(answer.top) > 3
        assert {len(top) for top in answer.top} == {openai.N_TOP}
        for step, logprob, top in zip(record.steps, answer.logprobs, answer.top, strict=False):
            assert abs(step.logprob - logprob) < 0.5 and top[0][1] == pytest.approx(logprob)


def test_an_answer_is_data() -> None:
    with Imitation(Reply(CHAT)) as server:
        answer = openai.connect(server.address).chat(USER, max_tokens=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.text = "5"  # type: ignore[misc]
