"""Who may ask: this machine alone unless told otherwise, by its own names, from its own page, with the token."""

from __future__ import annotations

import datetime
import ssl
import urllib.request
from pathlib import Path

import pytest

from blemish.errors import SettingError
from blemish.service.access import Access
from blemish.service.refused import Refused
from blemish.service.settings import Settings, is_loopback, read_token
from command import inside
from serving import TOKEN, Running, running

Guarded = tuple[Running, Path]


def asked(settings: Settings, host: str, method: str = "POST", path: str = "/v1/models", **headers: str) -> int:
    """The status that a request gets, or 0 if it may pass."""
    given = {name.encode(): value.encode() for name, value in {"host": host, **headers}.items()}
    try:
        Access(settings).check(method, path, given)
    except Refused as refused:
        return refused.status
    return 0


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost", "LOCALHOST:1", "[::1]:8420", "127.8.9.1"])
def test_names_of_this_machine_are_the_services_own(host: str) -> None:
    assert asked(Settings(), host) == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_another_name_is_refused_so_that_no_site_can_point_its_own_here(host: str) -> None:
    assert asked(Settings(), host) == 403
    assert asked(Settings(names=("evil.example", "")), "evil.example") == 0


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8420", 0),
        ("https://127.0.0.1:8420", 0),
        ("http://line.example", 0),
        ("http://127.0.0.1:80", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_site_may_change_nothing(origin: str, status: int) -> None:
    settings = Settings(names=("line.example",), host="localhost")
    assert asked(settings, "127.0.0.1:8420", origin=origin) == status
    assert asked(settings, "127.0.0.1:8420", "GET", origin=origin) == 0


def test_another_host_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "line.example", ""):  # noqa: S104  # it is refused
        assert not is_loopback(host)
        with pytest.raises(SettingError, match="--token-file"):
            Settings(host=host)
    assert asked(Settings(host="10.0.0.1", token=TOKEN), "line.example", authorization=f"Bearer {TOKEN}") == 0


@pytest.mark.parametrize("shown", ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"])
def test_a_wrong_token_is_refused(shown: str) -> None:
    assert asked(Settings(token=TOKEN), "localhost", authorization=shown) == 401
    assert asked(Settings(token=TOKEN), "localhost", "GET", "/metrics", authorization=shown) == 401


@pytest.mark.parametrize(
    "path", ["/", "/page/main.js", "/healthz", "/readyz", "/docs", "/docs/style.css", "/openapi.json"]
)
def test_the_page_and_the_state_need_no_token(path: str) -> None:
    assert asked(Settings(token=TOKEN), "localhost", "GET", path) == 0
    assert asked(Settings(token=TOKEN), "localhost", "GET", f"/v1{path}") == 401


@pytest.mark.parametrize("content", [b"", b"short", b"two words in one line", b"\xff\xfe" * 20, None])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(SettingError, match="token"):
        read_token(tmp_path / "token")


@pytest.mark.parametrize(
    ("option", "value"), [("most_bytes", 0), ("queue", 0), ("timeout", 0.0), ("port", 70_000), ("keep", "some")]
)
def test_settings_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(SettingError, match="give"):
        Settings(**{option: value})  # type: ignore[arg-type]


def test_a_running_service_asks_for_the_token(guarded: Guarded) -> None:
    service, _ = guarded
    for path in ("/v1/models", "/v1/verdicts", "/metrics"):
        answer = service.get(path, Authorization="Bearer wrong")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert service.get(path).status == 200
    assert service.judge(b"", name="cells", Authorization="none").status == 401
    assert service.get("/healthz", Authorization="none").status == 200
    assert service.get("/healthz", Host="evil.example").status == 403


def test_no_answer_can_be_framed_sniffed_or_cached(guarded: Guarded) -> None:
    service, _ = guarded
    for path in ("/", "/docs", "/v1/models", "/nothing", "/openapi.json"):
        headers = service.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "no-referrer" in headers["referrer-policy"]
        assert headers["cache-control"] in {"no-store", "no-cache"}
    policy = service.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_documents_need_no_other_host(guarded: Guarded) -> None:
    service, _ = guarded
    page = service.get("/docs").body.decode()
    assert "/v1/models/{name}/predict" in page
    assert "http" not in page.replace("HTTP", "").replace("https://", "http").replace("/docs", "") or "//" not in page
    assert "<script" not in page
    document = service.get("/openapi.json").json
    assert document["paths"]["/v1/models/{name}/predict"]["post"]["security"] == [{"token": []}]


def test_paths_that_climb_out_of_the_page_find_nothing(guarded: Guarded) -> None:
    service, _ = guarded
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/%00"):
        assert service.get(path).status == 404


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(*kinds))
    return folder / "cert.pem", folder / "key.pem"


def test_two_services_do_not_share_a_state(guarded: Guarded, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "serve", small, "--port", 0, "--state", guarded[0].state)
    assert (done.returncode, "another service" in done.stderr) == (2, True)


def test_it_speaks_https_with_a_certificate(small: Path, good_image: bytes, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    cert, key = certificate(tmp_path)
    with running(tmp_path, small, "--tls-cert", cert, "--tls-key", key) as service:
        asking = urllib.request.Request(f"https://127.0.0.1:{service.port}/v1/models/parts/predict", good_image)
        asking.add_header("Content-Type", "image/png")
        with urllib.request.urlopen(asking, context=ssl.create_default_context(cafile=str(cert))) as answer:  # noqa: S310
            assert answer.status == 200


def test_what_cannot_start_says_so_in_one_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, reason in (
        ((small, "--host", "0.0.0.0"), "--token-file"),  # noqa: S104  # it is refused
        ((small, "--host", "203.0.113.9", "--token-file", tmp_path / "none"), "cannot be read"),
        ((small, "--tls-cert", "a.pem"), "--tls-key"),
        ((small, "--keep", "some"), "none, anomalous or all"),
        ((small, "--log", "mysql://x"), "sqlite"),
        ((small, f"parts={small}"), "two models"),
        ((tmp_path / "gone.blemish",), "no such model"),
        ((small, "--shadow", f"other={small}"), "no served model is called"),
        ((f"{small}/.",), "cannot be a model's name"),
    ):
        done = inside(capsys, "serve", *words, "--port", 0, "--state", tmp_path / "state")
        assert (done.returncode in {1, 2}, done.stderr.count("\n")) == (True, 1), done.stderr
        assert reason in done.stderr
