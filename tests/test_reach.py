"""Why a server cannot be reached is said, and what to do about that; MLflow's own settings hold."""

import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import mlflow
import pytest
import requests
import urllib3

from trainer import reach, store
from trainer.errors import UserError

Answer = tuple[int, dict[str, str], str]
Serving = Callable[..., str]

JSON = {"Content-Type": "application/json"}
EXPERIMENT: Answer = (200, JSON, json.dumps({"experiment": {"experiment_id": "0"}}))


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the settings of this machine away."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(reach, "PAUSES", (0.0,))


@pytest.fixture
def serving() -> Iterator[Serving]:
    """Serve an answer, or several one after the other, by path; the address of the server is returned."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def serve(*answers: Answer, certificate: Path | None = None) -> str:
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http{'' if certificate is None else 's'}://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(uri: str) -> UserError:
    with pytest.raises(UserError) as told:
        store.check(uri)
    return told.value


@pytest.mark.parametrize(
    "answer", [EXPERIMENT, (404, JSON, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no Default"}))]
)
def test_mlflow_is_recognised(serving: Serving, answer: Answer) -> None:
    store.check(serving(answer))


PAGE = "<html>sign in</html>"


@pytest.mark.parametrize(
    ("answer", "cause", "remedy"),
    [
        ((401, {}, ""), "it asks who you are (401)", "MLFLOW_TRACKING_USERNAME"),
        ((403, JSON, '{"message": "Permission denied"}'), "it refuses you (403): Permission denied", "for access"),
        ((404, {}, "<html>nginx</html>"), "there is a server, and no MLflow at this address (404)", "path before #/"),
        ((404, JSON, '{"detail": "Not Found"}'), "there is a server, and no MLflow at this address (404)", "path"),
        ((200, {}, PAGE), "something else than MLflow answers there", "host, port and path"),
        ((200, JSON, '["a list"]'), "something else than MLflow answers there", "host, port and path"),
        ((302, {"Location": "/login?rd=https://h/x"}, ""), "it redirects in a circle", "sign in"),
        ((407, {}, ""), "a proxy asks who you are (407)", "HTTP_PROXY"),
        ((500, JSON, '{"message": "out of order"}'), "it answers with error 500: out of order", "the server's log"),
        ((502, {}, "<html>"), "it answers with error 502", "the server's log"),
        ((429, {}, ""), "it has too much to do (429)", "in a while"),
    ],
)
def test_an_answer_that_is_not_mlflow_s_is_told(serving: Serving, answer: Answer, cause: str, remedy: str) -> None:
    uri = serving(answer)
    told = refusal(uri)
    assert told.cause == f"the MLflow tracking server at {uri} cannot be reached: {cause}"
    assert remedy in told.remedy


def test_a_page_to_sign_in_is_told(serving: Serving) -> None:
    page = serving((200, {}, PAGE))
    told = refusal(serving((302, {"Location": f"{page}/login?token=secret"}, "")))
    assert f"it sends on to {page}/login, a page to sign in perhaps" in told.cause
    assert "MLFLOW_TRACKING_TOKEN" in told.remedy


def test_a_server_that_is_busy_is_asked_again(serving: Serving) -> None:
    store.check(serving((503, {}, ""), EXPERIMENT))


def test_a_closed_port_and_a_name_of_nobody_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told = refusal(f"http://ada:secret@127.0.0.1:{port}")
    assert told.cause == (
        f"the MLflow tracking server at http://127.0.0.1:{port} cannot be reached: "
        "connection refused: nothing listens there"
    )
    assert "start it" in told.remedy

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "the name mlflow.example is not known" in refusal("http://mlflow.example:5000").cause


def test_a_server_that_does_not_answer_is_told_while_and_after_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(reach, "SILENT_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        told = refusal(uri)
    assert "it did not answer in time" in told.cause
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" in told.remedy
    said = capsys.readouterr().err
    assert said == f"waiting for the answer of MLflow at {uri} (MLFLOW_HTTP_REQUEST_TIMEOUT: 1 s)\n"


def test_a_server_that_breaks_off_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        told = refusal(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert "it broke the connection off" in told.cause


def test_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = f"http://ada:secret@127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", proxy)
    told = refusal("http://mlflow.example:5000")
    assert f"the proxy {proxy.replace('ada:secret@', '')} (HTTP_PROXY) did not let it through" in told.cause
    assert told.remedy == "unset HTTP_PROXY, or: export NO_PROXY=mlflow.example"


def test_a_certificate_is_told_and_mlflow_s_settings_for_it_hold(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    uri = serving(EXPERIMENT, certificate=certificate)
    told = refusal(uri)
    assert "its certificate cannot be verified (self-signed certificate)" in told.cause
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in told.remedy
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        store.check(uri)
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
            store.check(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "nowhere.pem")
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal(uri).remedy


def self_signed(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_the_credentials_of_mlflow_are_sent(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    request = requests.Session.request

    def noted(session: requests.Session, method: str, url: str, **options: object) -> requests.Response:
        sent.append(dict(options["headers"])["Authorization"])  # type: ignore[call-overload]
        return request(session, method, url, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "request", noted)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    store.check(serving(EXPERIMENT))
    assert sent == ["Bearer abc"]


@pytest.mark.parametrize(
    ("uri", "cause", "remedy"),
    [
        ("postgresql://u:secret@127.0.0.1/db", "its address takes psycopg 3", "postgresql+psycopg2://"),
        ("postgresql+psycopg2://u:secret@127.0.0.1/db", "the package psycopg2-binary", "install 'psycopg2-binary'"),
        ("mysql+pymysql://u:secret@127.0.0.1/db", "it needs the package pymysql", "uv pip install 'pymysql'"),
        ("postgresql+nowhere://u:secret@127.0.0.1/db", "MLflow does not know this kind of address", "http://HOST:PORT"),
        ("postgresql://", "its address takes psycopg 3", "uv pip install psycopg2-binary"),
    ],
)
def test_a_database_without_its_driver_is_told(
    uri: str, cause: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for driver in ("psycopg", "psycopg2", "pymysql"):
        monkeypatch.setitem(sys.modules, driver, None)
    told = refusal(uri)
    assert cause in told.cause
    assert remedy in told.remedy
    assert "secret" not in str(told)


def test_a_registry_that_finds_no_version_by_its_number_is_told_before_anything_is_trained(serving: Serving) -> None:
    message = "(psycopg.errors.UndefinedFunction) operator does not exist: integer = character varying"
    uri = serving((400, JSON, json.dumps({"error_code": "BAD_REQUEST", "message": message})))
    with pytest.raises(UserError, match="its driver, psycopg 3") as told:
        store.check_registry(mlflow.MlflowClient(uri), uri)
    assert "--backend-store-uri" in told.value.remedy
    other = serving((404, JSON, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"})))
    store.check_registry(mlflow.MlflowClient(other), other)
    store.check_registry(mlflow.MlflowClient(uri), "azureml://a-workspace")  # which is not asked
