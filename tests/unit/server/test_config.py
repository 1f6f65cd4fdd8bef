"""Every setting is checked before anything starts; a fault is one line that names place, key and reason (INF-2)."""

from __future__ import annotations

import datetime
import pickle
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from veredus.server.config import Config, load
from veredus.server.failure import StartFailed
from veredus.server.secret import Secret

BASE = "database_url: postgresql://me:hunter2@host/db\nredis_url: redis://:hunter2@host\nsecret_file: secret\n"
SEVERAL = BASE.replace("redis_url: redis://:hunter2@host", "redis_urls: {}")
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "secret").write_text("s" * 64 + "\n")

    def write(text: str | bytes) -> Path:
        file = tmp_path / "veredus.yaml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


def refusal(file: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(StartFailed) as failed:
        load(file, environment or {})
    text = str(failed.value)
    assert "\n" not in text
    assert "hunter2" not in text
    assert failed.value.__cause__ is None, "the chain would be printed with it"
    return text


def test_a_file_and_defaults_make_a_configuration(write: Write, tmp_path: Path) -> None:
    config = load(
        write(BASE + "listen: {port: 443}\norigins: ['https://a.example', 'http://localhost:3000']\nlimits: {window: 7000}\n"), {}
    )
    assert config.database_url.reveal() == "postgresql://me:hunter2@host/db"
    assert (config.listen.address, config.listen.port) == ("127.0.0.1", 443)
    assert config.origins == ("https://a.example", "http://localhost:3000")
    assert config.limits.window == 7000
    assert config.limits.page_rows == 100
    assert config.secret_file == tmp_path / "secret", "relative to the file"
    assert not config.development
    assert len(config.pepper()) == 32


def test_several_redis_come_from_a_list_or_a_variable_with_commas(write: Write) -> None:
    listed = load(write(SEVERAL.format("['redis://a', 'redis://:hunter2@b']")), {})
    assert [url.reveal() for url in listed.redis_servers] == ["redis://a", "redis://:hunter2@b"]
    assert "hunter2" not in repr(listed)
    given = load(write(SEVERAL.format("[]")), {"VEREDUS_REDIS_URLS": "redis://a, redis://b"})
    assert [url.reveal() for url in given.redis_servers] == ["redis://a", "redis://b"]
    one = load(write(BASE), {})
    assert [url.reveal() for url in one.redis_servers] == ["redis://:hunter2@host"]


def test_the_limit_of_messages_may_be_off_and_have_a_redis_of_its_own(write: Write) -> None:
    assert load(write(BASE), {}).ratelimit_redis_url is None
    config = load(write(BASE + "ratelimit_redis_url: redis://:hunter2@other\nlimits: {messages_per_minute: 0}\n"), {})
    assert config.ratelimit_redis_url is not None
    assert config.ratelimit_redis_url.reveal() == "redis://:hunter2@other"
    assert config.limits.messages_per_minute == 0
    assert "hunter2" not in repr(config)
    config = load(write(BASE), {"VEREDUS_RATELIMIT_REDIS_URL": "redis://third", "VEREDUS_LIMITS_MESSAGES_PER_MINUTE": "7"})
    assert config.ratelimit_redis_url is not None
    assert (config.ratelimit_redis_url.reveal(), config.limits.messages_per_minute) == ("redis://third", 7)


@pytest.mark.requirement("INF-22")
def test_the_environment_alone_is_enough_and_wins_over_the_file(write: Write, tmp_path: Path) -> None:
    environment = {
        "DATABASE_URL": "postgresql://other/db",
        "REDIS_URL": "redis://other",
        "VEREDUS_SECRET_FILE": str(tmp_path / "secret"),
        "VEREDUS_LISTEN_PORT": "0",
        "VEREDUS_ORIGINS": "https://a.example, https://b.example",
        "VEREDUS_DEVELOPMENT": "true",
        "VEREDUS_LIMITS_UPGRADE_SECONDS": "2.5",
        "HOME": "/",
    }
    alone = load(None, environment)
    over = load(write(BASE + "listen: {port: 9}\n"), environment)
    for config in (alone, over):
        assert config.database_url.reveal() == "postgresql://other/db"
        assert config.listen.port == 0
        assert config.origins == ("https://a.example", "https://b.example")
        assert config.development is True
        assert config.limits.upgrade_seconds == 2.5


def test_what_the_caller_fixes_neither_file_nor_environment_changes(write: Write) -> None:
    config = load(write(BASE), {"DATABASE_URL": "postgresql://other/db"}, {"database_url": Secret("postgresql://mine/db")})
    assert config.database_url.reveal() == "postgresql://mine/db"


@pytest.mark.requirement("INF-2")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prt: 1", "prt: there is no such setting"),
        ("listen: {prt: 1}", "listen.prt: there is no such setting"),
        ("limits: {content_byte: 1}", "limits.content_byte: there is no such setting"),
        ("listen: {port: https}", "listen.port: expected int, got str"),
        ("listen: {port: 65536}", "listen.port: must be 0 to 65535"),
        ("listen: 8080", "listen: expected object, got int"),
        ("origins: [7]", "origins[0]: expected str, got int"),
        ("origins: ['*']", "origins: '*' must be scheme://host"),
        ("origins: ['https://a.example/']", "origins: 'https://a.example/' must be scheme://host"),
        ("development: maybe", "development: expected bool, got str"),
        ("log: {level: loud}", "log.level: invalid enum value 'loud'"),
        ("limits: {window: 0}", "limits.window: must be above 0 and finite"),
        ("limits: {messages_per_minute: -1}", "limits.messages_per_minute: must be 0 to 1000000000"),
        ("limits: {messages_burst: 1000000001}", "limits.messages_burst: must be 0 to 1000000000"),
        ("ratelimit_redis_url: http://host", "ratelimit_redis_url: must be a URL that begins with redis://"),
        ("limits: {window: 1.5}", "limits.window: expected int, got float"),
        ("limits: {upgrade_seconds: .nan}", "limits.upgrade_seconds: must be above 0 and finite"),
        ("limits: {upgrade_seconds: .inf}", "limits.upgrade_seconds: must be above 0 and finite"),
        ("limits: {lane_bytes: 1}", "limits.lane_pause_bytes: must not be above limits.lane_bytes"),
        ("shutdown_seconds: 0", "shutdown_seconds: must be above 0"),
        ("tls: {certificate: a}", "tls.key: is not set"),
        ("database_url: x", "line 4: not valid YAML: the key database_url stands twice"),
        ("listen: {", "line 5: not valid YAML"),
        ("1: 2", "line 4: not valid YAML: every key must be a word"),
        ("? [a]\n: 2", "line 4: not valid YAML: every key must be a word"),
    ],
)
def test_a_fault_in_the_file_is_one_line_with_file_key_and_reason(write: Write, text: str, reason: str) -> None:
    file = write(BASE + text + "\n")
    assert refusal(file).startswith(f"{file}: {reason}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "database_url: is not set"),
        ("- a list", "must be a mapping"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"a: \xff", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("a: &a [*a]", "a: there is no such setting"),
        (BASE.replace("postgresql://", "mysql://"), "database_url: must be a URL that begins with postgresql://"),
        (BASE.replace("redis://", "http://"), "redis_url: must be a URL that begins with redis://"),
        (BASE.replace("redis_url: redis://:hunter2@host\n", ""), "redis_url: is not set"),
        (BASE + "redis_urls: ['redis://b']\n", "redis_urls: redis_url is set as well"),
        (SEVERAL.format("['redis://a', 'http://:hunter2@b']"), "redis_urls: must be a URL that begins with redis://"),
        (SEVERAL.format("['redis://:hunter2@a', 'redis://A']"), "redis_urls: one server stands twice"),
        (BASE.replace("postgresql://me:hunter2@host/db", "[hunter2]"), "database_url: expected"),
    ],
)
def test_a_file_of_another_kind_is_refused(write: Write, text: str | bytes, reason: str) -> None:
    file = write(text)
    assert refusal(file).startswith(f"{file}: {reason}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.yaml") == f"{tmp_path}/nowhere.yaml: No such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("VEREDUS_LISTN_PORT", "1", "there is no such setting"),
        ("VEREDUS_LISTEN", "1", "there is no such setting"),
        ("VEREDUS_LISTEN_PORT", "http", "expected int, got str"),
        ("VEREDUS_LISTEN_PORT", "-1", "listen.port: must be 0 to 65535"),
        ("VEREDUS_DEVELOPMENT", "maybe", "expected bool, got str"),
        ("DATABASE_URL", "mysql://me:hunter2@host", "database_url: must be a URL"),
        ("REDIS_URL", "", "expected str"),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(write: Write, name: str, value: str, reason: str) -> None:
    assert refusal(write(BASE), {name: value}).startswith(f"environment: {name}: {reason}")


def test_variables_that_an_orchestrator_adds_for_a_service_of_our_name_are_not_settings(write: Write) -> None:
    load(write(BASE), {"VEREDUS_PORT": "tcp://10.0.0.1:80", "VEREDUS_SERVICE_HOST": "10.0.0.1", "VEREDUS_PORT_80_TCP_ADDR": "10.0.0.1"})


def test_a_secret_file_that_is_missing_or_short_is_refused(write: Write, tmp_path: Path) -> None:
    file = write(BASE)
    (tmp_path / "secret").write_text("short")
    assert refusal(file).startswith(f"secret_file: {tmp_path}/secret: has fewer than 32 bytes")
    (tmp_path / "secret").unlink()
    assert refusal(file) == f"secret_file: {tmp_path}/secret: No such file or directory"


def test_the_newline_an_editor_adds_does_not_change_the_secret(write: Write, tmp_path: Path) -> None:
    config = load(write(BASE), {})
    before = config.pepper()
    (tmp_path / "secret").write_text("s" * 64)
    assert config.pepper() == before
    (tmp_path / "secret").write_text("t" * 64)
    assert config.pepper() != before


def test_a_configuration_prints_without_its_secrets(write: Write) -> None:
    config = load(write(BASE), {})
    for shown in (repr(config), str(config), f"{config.redis_url}", f"{config.database_url!r}"):
        assert "hunter2" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(config.database_url)


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    for name_, encryption in (("key.pem", serialization.NoEncryption()), ("locked.pem", serialization.BestAvailableEncryption(b"hunter2"))):
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        (folder / name_).write_bytes(text)


@pytest.mark.requirement("SEC-1")
def test_tls_speaks_version_1_3_only(write: Write, tmp_path: Path) -> None:
    certificate(tmp_path)
    config: Config = load(write(BASE + "tls: {certificate: cert.pem, key: key.pem}\n"), {})
    assert config.tls is not None
    context = config.tls.context()
    newest = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    older = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(context, newest) == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        handshake(context, older)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """Both sides in memory."""
    client.check_hostname = False
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up)]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return sides[0].version()


@pytest.mark.parametrize("key", ["missing.pem", "cert.pem", "locked.pem", "veredus.yaml"])
def test_tls_files_that_do_not_serve_are_named(write: Write, tmp_path: Path, key: str) -> None:
    certificate(tmp_path)
    text = refusal(write(BASE + f"tls: {{certificate: cert.pem, key: {key}}}\n"))
    assert text.startswith("tls: ")
    assert str(tmp_path / key) in text
