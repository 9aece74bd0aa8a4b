"""No secret of an address is recorded or said, however it is spelled; what is none stays as it is."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest

from tests.conftest import ROOT, Trainer, run_id
from trainer.secrets import holds_secret, redact, without_secrets

SECRET = "S3CR3TabcDEF"

ADDRESSES = [
    *(f"https://h/x.csv?{name}={SECRET}" for name in ("sig", "Sig", "token", "code", "sas", "api_key", "access_token")),
    *(f"https://h/x?{name}={SECRET}" for name in ("X-Amz-Signature", "AWSAccessKeyId", "Signature", "apikey", "%73ig")),
    f"https://h/x.csv?sv=2024&st=2026-01-01&SIG={SECRET}&x=1",
    f"https://u:{SECRET}@h/x.csv",
    f"https://{SECRET}@h/x",
    f"https://u:a@{SECRET}@h/x",
    f"https://u%3A{SECRET}%40h/x",
    f"https:/u:{SECRET}@h/x",
    f"HTTPS://h/x?Sig={SECRET}",
    f"https://h/x%3Fsig={SECRET}",
    f"https://h/x%253Fsig%253D{SECRET}",
    f"https://h/x?%2573ig={SECRET}",
    f"https://h/x#access_token={SECRET}",
    f"https://h/x;token={SECRET}",
    f"https://h/x?a=1;sig={SECRET}",
    f"https://h/x?sig={SECRET[:4]}%2F{SECRET[4:]}%3D",
    f"https://h/x?s=Abc123{SECRET}xyz987654",
    f"zip://a.csv::https://u:{SECRET}@h/a.zip?sig={SECRET}",
    f"simplecache::https://h/x?sig={SECRET}",
    quote(f"https://u:{SECRET}@h/x?sig={SECRET}", safe=""),
    quote(quote(f"https://u:{SECRET}@h/x?sig={SECRET}", safe=""), safe=""),
    f"s3://AK:{SECRET}@bucket/x",
    f"abfss://c@account.dfs.core.windows.net/x?sig={SECRET}",
    f"abfss://c:{SECRET}@account.dfs.core.windows.net/x",
    f"postgresql+psycopg://u:{SECRET}@h/db",
    f"sftp://u:{SECRET}@h:22/x",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_secret_of_an_address_is_left_out(address: str) -> None:
    assert holds_secret(address)
    for said in (redact(address), redact(f"cannot read '{address}': no"), redact(f"url=URL('{address}')")):
        assert SECRET not in said
        assert SECRET[4:] not in said
        assert redact(said) == said
    recorded = without_secrets(address)
    assert SECRET[4:] not in recorded
    assert not holds_secret(recorded)


@pytest.mark.parametrize(
    "text",
    [
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}==;EndpointSuffix=core.windows.net",
        f"AzureBlobFileSystem(account_key='{SECRET}')",
        f'{{"password": "{SECRET}"}}',
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"Authorization: Basic {SECRET}=",
        f"x-api-key: {SECRET}",
        f"PGPASSWORD={SECRET} psql",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"mlflow --token {SECRET}",
        f"client_secret = '{SECRET}'",
        f"ghp_{SECRET}{SECRET}",
        f"eyJhbGciOi.eyJzdWIiOi.{SECRET}",
    ],
)
def test_a_secret_of_a_text_is_left_out(text: str) -> None:
    assert SECRET not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "parameters  key=site (not none), author=ada, sig=0.05, code=5",
        "the token is missing; max_tokens=5; kansas=3",
        "http://127.0.0.1:5000/#/experiments/0/runs/0123456789abcdef0123456789abcdef?workflowType=machine_learning",
        "https://ml.azure.com/runs/a?wsid=/subscriptions/12345678-1234-1234-1234-123456789abc/resourceGroups/g/workspaces/w"
        "&tid=12345678-1234-1234-1234-123456789abc",
        "abfss://container@account.dfs.core.windows.net/sales.parquet",
        "models:/diabetes-progression@champion",
        "C:/a@b/c.csv",
        "ada@example.org wrote data=my data/x?y=1@z#.csv",
        "sqlite:////tmp/mlflow.db?timeout=30",
        "https://h/@user/x.csv?page=2&order=asc",
        "git_commit=0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_what_is_no_secret_is_said(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("address", "recorded"),
    [
        ("http://ada:secret@host:5000/path?token=1", "http://host:5000/path"),
        ("https://host/x.csv?v=1#top", "https://host/x.csv"),
        ("zip://a.csv::https://u:p@h/a.zip?sig=1", "zip://a.csv::https://h/a.zip"),
        ("abfss://c@account.dfs.core.windows.net/x?sig=1", "abfss://c@account.dfs.core.windows.net/x"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("my data/x?y=1@z#.csv", "my data/x?y=1@z#.csv"),
        ("s3://bucket/a b.csv", "s3://bucket/a b.csv"),
        ("price (€), net", "price (€), net"),
    ],
)
def test_the_rest_of_an_address_stays(address: str, recorded: str) -> None:
    assert without_secrets(address) == recorded


@pytest.mark.parametrize(
    "text", ["abc.def-" * 20_000, "https:/" + "a:" * 20_000, "?a=1b" * 20_000, "x%2525" * 20_000, "'token'" * 10_000]
)
def test_no_text_takes_long(text: str) -> None:
    redact(text)  # a pattern that tries all ways to divide a text would meet the limit of a test here
    without_secrets(text)


# -- in a whole run ------------------------------------------------------------------------------------


class _Table(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        found = SECRET in self.path and "missing" not in self.path
        body = (ROOT / "data" / "diabetes.csv").read_bytes() if found else b""
        self.send_response(200 if found else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Table) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def holders(folder: Path) -> list[str]:
    """Name the files below a folder that hold the secret."""
    return [path.name for path in folder.rglob("*") if path.is_file() and SECRET[4:].encode() in path.read_bytes()]


def test_nothing_that_a_run_leaves_holds_the_secret_of_its_data(
    trains: Trainer, store: mlflow.MlflowClient, tracking_uri: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://{host}/sales.csv?sv=1&sig={SECRET}"
    monkeypatch.setenv("DATA_URL", address)
    for data, recorded in ((address, f"http://{host}/sales.csv"), ("$DATA_URL", "$DATA_URL")):
        done = trains(data=data, cv=0, model_name="from-an-address")
        assert done.code == 0, done.err
        assert SECRET not in done.out + done.err
        assert store.get_run(run_id(done)).data.params["data"] == recorded
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("pragma wal_checkpoint")
    assert holders(database.parent) == []


def test_what_goes_wrong_is_said_without_the_secret(
    trains: Trainer, host: str, store: mlflow.MlflowClient, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (
        f"http://{host}/missing.csv?sig={SECRET}",
        f"http://u:{SECRET}@{host}/missing.csv",
        f"nowhere://{SECRET}@h/x",
    ):
        done = trains(data=data)
        assert done.code == 2
        assert SECRET not in done.out + done.err
        assert len(done.err.splitlines()) == 2
    assert holders(Path(tracking_uri.removeprefix("sqlite:///")).parent) == []
    for uri in (
        f"http://u:{SECRET}@127.0.0.1:9/x",
        f"nowhere://u:{SECRET}@h/x",
        f"postgresql+nowhere://u:{SECRET}@h/x",
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        done = trains()
        assert done.code == 2
        assert SECRET not in done.out + done.err
        assert len(done.err.splitlines()) == 2


def test_an_encoded_user_leaves_no_asterisks_in_an_address_that_is_recorded() -> None:
    assert without_secrets("https://user%3Apw%40host/x") == "https://host/x"
