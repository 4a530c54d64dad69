"""An operator's hooks: which are due, and real commands and real HTTP servers that say yes, no, nothing, or too much."""

import hmac
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ferryman.drivers import hooks as driver
from ferryman.drivers.probe import HostNetwork
from ferryman.model.hook import Answer, Ended, Event, Hook, HookRun
from ferryman.model.outcome import Status
from ferryman.model.request import Request
from ferryman.plan import hooks as rules

SECRET = "a word between the two of us"
FACTS = {
    "event": "before-stop", "event_id": "9c7fa58b-before-stop", "request": "9c7fa58b", "guest": "web", "source": "a",
    "destination": "b", "method": "cold",
}  # fmt: skip


# What is due, and what an answer means


def test_a_hook_is_told_of_what_it_asked_for_once_it_has_not_taken_it() -> None:
    ours, other = Hook("ours", (Event.FAILURE, Event.BEFORE_STOP)), Hook("other", (Event.ATTENTION,))
    assert rules.due([ours, other], Event.BEFORE_STOP, "r", ()) == (ours,)
    good = HookRun("ours", Event.BEFORE_STOP, "r", Ended.GOOD, 1)
    assert rules.due([ours], Event.BEFORE_STOP, "r", [good]) == ()
    assert rules.due([ours], Event.BEFORE_STOP, "r", [replace(good, ended=Ended.TIMED_OUT)]) == (ours,)
    assert rules.due([ours], Event.BEFORE_STOP, "another", [good]) == (ours,)


@pytest.mark.parametrize(
    ("status", "runs", "event"),
    [
        (Status.SUCCEEDED, True, Event.AFTER_START),
        (Status.SUCCEEDED, False, None),  # one that was off: nobody started it
        (Status.FAILED, True, Event.FAILURE),
        (Status.REFUSED, False, Event.FAILURE),
        (Status.CANCELLED, True, Event.FAILURE),
        (Status.NEEDS_ATTENTION, False, Event.ATTENTION),
        (Status.CLOSED, True, None),
    ],
)
def test_each_end_has_its_event(status: Status, runs: bool, event: Event | None) -> None:
    assert rules.event_at_end(status, runs=runs) is event


def test_tries_are_bounded_and_further_and_further_apart() -> None:
    hook, again = Hook("h", (), tries=8), Answer(Ended.FAILED, again=True)
    pauses = [rules.pause(hook, again, tries) for tries in range(1, 9)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, None]
    assert rules.pause(hook, Answer(Ended.FAILED), 1) is None
    assert rules.pause(hook, Answer(Ended.GOOD), 1) is None


def test_only_a_veto_speaks_against_the_stop_unless_a_hook_must_answer() -> None:
    hook = Hook("h", ())
    dead = HookRun("h", Event.BEFORE_STOP, "r", Ended.FAILED, 3, "connection refused")
    assert rules.against(hook, dead) == ""
    assert "connection refused" in rules.against(replace(hook, must_answer=True), dead)
    assert rules.against(hook, replace(dead, ended=Ended.VETO, words="not today")) == "not today"
    assert rules.against(hook, replace(dead, ended=Ended.VETO, words="")) != ""
    assert rules.against(replace(hook, must_answer=True), replace(dead, ended=Ended.GOOD)) == ""


def test_an_event_keeps_its_id_and_another_end_has_another() -> None:
    request = Request("9c7fa58b", "uuid", "web", "a", "b")
    once, again = (rules.event_id(request, Event.ATTENTION, "paused") for _ in range(2))
    assert once == again
    assert rules.event_id(request, Event.ATTENTION, "gone") != once
    assert once.startswith("9c7fa58b-attention-")


# Commands


def command(*words: str, time_limit: float = 10.0) -> Answer:
    return driver.tell(Hook("h", (), command=words, time_limit=time_limit), FACTS, "")


def test_a_command_gets_the_facts_on_its_input_and_in_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = command("sh", "-c", f'cat >{out}; echo "$FERRYMAN_EVENT $FERRYMAN_GUEST $FERRYMAN_EVENT_ID" >>{out}')
    assert answer == Answer(Ended.GOOD)
    facts, variables = out.read_text().rsplit("}", 1)
    assert json.loads(facts + "}") == FACTS
    assert variables.strip() == "before-stop web 9c7fa58b-before-stop"


def test_no_shell_reads_its_words(tmp_path: Path) -> None:
    assert command("test", "$(touch x)", "=", "$(touch x)").ended is Ended.GOOD


def test_a_command_does_not_get_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRYMAN_HOOK_SECRET", SECRET)
    assert command("sh", "-c", 'test -z "$FERRYMAN_HOOK_SECRET"').ended is Ended.GOOD


@pytest.mark.parametrize(
    ("code", "ended", "again"), [(0, Ended.GOOD, False), (10, Ended.VETO, False), (1, Ended.FAILED, True)]
)
def test_its_exit_code_is_its_answer_and_its_last_line_its_words(code: int, ended: Ended, again: bool) -> None:
    answer = command("sh", "-c", f"echo one; echo the sale >&2; exit {code}")
    assert (answer.ended, answer.again) == (ended, again)
    assert ended is Ended.GOOD or "the sale" in answer.words


def test_what_it_says_cannot_paint_a_terminal() -> None:
    answer = command("sh", "-c", "printf '\\033[31mno\\a'; exit 10")
    assert "\033" not in answer.words
    assert "no" in answer.words


def test_one_that_is_not_there_is_said_and_not_tried_again() -> None:
    answer = command("/no/such/program")
    assert (answer.ended, answer.again) == (Ended.FAILED, False)
    assert "/no/such/program" in answer.words


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid, began = tmp_path / "pid", time.monotonic()
    answer = command("sh", "-c", f"sleep 60 & echo $! >{pid}; wait", time_limit=0.5)
    assert (answer.ended, answer.again) == (Ended.TIMED_OUT, True)
    assert time.monotonic() - began < 5
    child = Path("/proc") / pid.read_text().strip()
    deadline = time.monotonic() + 5
    while child.exists() and "Z" not in (child / "stat").read_text().rsplit(")", 1)[1].split()[0]:
        assert time.monotonic() < deadline, "it was left"
        time.sleep(0.02)


def test_one_that_cannot_be_ended_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted_again = threading.Event()

    def hangs(*_: object, **__: object) -> None:
        mounted_again.wait(60)
        raise OSError("stale file handle")

    monkeypatch.setattr(driver, "ENDS_WITHIN", 0.2)
    monkeypatch.setattr(subprocess, "Popen", hangs)  # its program lies on a mount that hangs
    began = time.monotonic()
    answer = driver.tell(Hook("h", (Event.FAILURE,), command=("/mnt/gone/hook",), time_limit=0.3), FACTS, SECRET)
    mounted_again.set()
    assert time.monotonic() - began < 10
    assert (answer.ended, answer.again) == (Ended.TIMED_OUT, True)
    assert "neither ended nor could be ended" in answer.words


def test_one_that_prints_without_end_is_ended_before_it_fills_the_disk() -> None:
    began = time.monotonic()
    answer = command("yes", time_limit=60.0)
    assert (answer.ended, answer.again) == (Ended.FAILED, False)
    assert "printed more than 16 MiB" in answer.words
    assert time.monotonic() - began < 10


def test_one_that_prints_megabytes_may() -> None:
    assert command("sh", "-c", "head -c 4000000 /dev/zero; echo; echo the sale; exit 10") == Answer(
        Ended.VETO, "the sale"
    )


def test_one_that_may_not_be_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    answer = command(str(tmp_path / "hook"))
    assert (answer.ended, answer.again) == (Ended.FAILED, False)
    assert "denied" in answer.words


def test_one_that_leaves_a_process_with_its_output_open_is_not_waited_for(tmp_path: Path) -> None:
    began, pid = time.monotonic(), tmp_path / "pid"
    assert command("sh", "-c", f"sleep 60 & echo $! >{pid}").ended is Ended.GOOD
    assert time.monotonic() - began < 5
    subprocess.run(["kill", pid.read_text().strip()], check=True)


# Webhooks


@dataclass
class Receiver:
    """A real HTTP server on loopback: what it says, and what it got."""

    url: str = ""
    answer: Callable[[BaseHTTPRequestHandler], None] = field(default=lambda handler: reply(handler, 204))
    got: list[tuple[Message, bytes]] = field(default_factory=list)


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from served(None)


def served(context: ssl.SSLContext | None) -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.got.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            told.answer(self)

        def do_GET(self) -> None:
            told.got.append((self.headers, b""))
            reply(self, 200)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked has gone, or does not trust us
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    told.url = f"{'https' if context else 'http'}://localhost:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


def post(url: str, time_limit: float = 10.0) -> Answer:
    hook = Hook("chat", (), webhook=url, time_limit=time_limit)
    return HostNetwork({"chat": SECRET, "other": "another"}).tell(hook, FACTS)


def test_a_webhook_gets_the_facts_signed_with_its_secret(receiver: Receiver) -> None:
    assert post(receiver.url) == Answer(Ended.GOOD)
    ((headers, body),) = receiver.got
    assert json.loads(body) == FACTS
    signed = headers["Ferryman-Timestamp"].encode() + b"." + body
    assert headers["Ferryman-Signature"] == "sha256=" + hmac.new(SECRET.encode(), signed, "sha256").hexdigest()
    assert abs(float(headers["Ferryman-Timestamp"]) - time.time()) < 60
    assert headers["Ferryman-Event-Id"] == FACTS["event_id"]
    assert headers["Content-Type"] == "application/json"
    assert SECRET not in str(headers) + body.decode()


def test_a_stranger_can_verify_the_signature_by_what_the_guide_says(receiver: Receiver, tmp_path: Path) -> None:
    post(receiver.url)
    ((headers, body),) = receiver.got
    (tmp_path / "body").write_bytes(body)
    (typed,) = [line for line in Path("docs/guide/notices.md").read_text().splitlines() if "openssl dgst" in line]
    told = subprocess.run(
        ["sh", "-c", typed], env={"timestamp": headers["Ferryman-Timestamp"], "secret": SECRET, "PATH": os.environ["PATH"]},
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert headers["Ferryman-Signature"] == "sha256=" + told.stdout.split()[-1]


@pytest.mark.parametrize(
    ("status", "ended", "again"),
    [(200, Ended.GOOD, False), (409, Ended.VETO, False), (403, Ended.FAILED, False), (429, Ended.FAILED, True), (503, Ended.FAILED, True)],
)  # fmt: skip
def test_its_status_is_its_answer(receiver: Receiver, status: int, ended: Ended, again: bool) -> None:
    receiver.answer = lambda handler: reply(handler, status, b"the sale\n")
    answer = post(receiver.url)
    assert (answer.ended, answer.again) == (ended, again)
    assert ended is Ended.GOOD or "the sale" in answer.words


def test_it_is_not_led_to_another_place(receiver: Receiver) -> None:
    receiver.answer = lambda handler: reply(handler, 302, Location=f"{receiver.url}/elsewhere")
    assert post(receiver.url).ended is Ended.FAILED
    assert len(receiver.got) == 1


def test_a_dead_one_is_said_and_worth_another_try() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answer = post(f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert (answer.ended, answer.again) == (Ended.FAILED, True)
    assert "refused" in answer.words.lower()


def test_one_that_hangs_is_not_waited_for(receiver: Receiver) -> None:
    let_go = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        let_go.wait(10)

    receiver.answer = wait
    began = time.monotonic()
    answer = post(receiver.url, time_limit=0.3)
    let_go.set()
    assert (answer.ended, answer.again) == (Ended.TIMED_OUT, True)
    assert time.monotonic() - began < 5


def test_neither_is_one_that_sends_a_byte_now_and_then(receiver: Receiver) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        for _ in range(100):
            handler.wfile.write(b"H")
            handler.wfile.flush()
            time.sleep(0.1)

    receiver.answer = drip
    began = time.monotonic()
    assert post(receiver.url, time_limit=0.5).ended is Ended.TIMED_OUT
    assert time.monotonic() - began < 3


def test_a_certificate_that_nobody_trusts_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for receiver in served(context):
        answer = post(receiver.url)
        assert answer.ended is Ended.FAILED
        assert "certificate" in answer.words.lower()
        assert receiver.got == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert post(receiver.url) == Answer(Ended.GOOD)
        assert post(receiver.url.replace("localhost", "127.0.0.1")).ended is Ended.FAILED  # another name than it bears
