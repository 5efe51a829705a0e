"""A private PostgreSQL that is reached as one elsewhere is: by TLS, with a password, under an authority of its own.

On its socket, in a folder that nobody else may enter, it needs neither.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER = "tasker"
# PostgreSQL is the only one that needs to enter; a path of a socket has 107 characters at most.
PARENT = Path("/tmp")
START_SECONDS = 10
# What pg_isready says of a server.
READY, STARTING = 0, 1
# Lines of its log that are shown when it cannot start.
SHOWN = 20


class Postgres:
    """A cluster under a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = find_programs()
        self.owner = _owner()

    @staticmethod
    def new_folder() -> Path:
        """A place for a cluster."""
        return Path(tempfile.mkdtemp(prefix="tasker-postgres-", dir=PARENT))

    def create(self, durable: bool) -> None:
        """Makes the cluster, and starts it. What was begun of it and not finished is made anew."""
        shutil.rmtree(self.data, ignore_errors=True)
        self._own(self.folder)
        password = secrets.token_urlsafe(24)
        certificates(self.folder)
        password_file = self.folder / "password"
        password_file.write_text(password + "\n", encoding="ascii")
        for file in ("password", "server.key", "server.crt", "ca.crt"):
            (self.folder / file).chmod(0o600)
            self._own(self.folder / file)
        sync = [] if durable else ["--no-sync"]
        self._run("initdb", "-D", str(self.data), "-U", USER, "--encoding=UTF8", "--locale=C", "--auth-local=trust",
                  "--auth-host=scram-sha-256", f"--pwfile={password_file}", "--no-instructions", *sync)  # fmt: skip
        self._write_settings(durable)
        self.start()

    def created(self) -> bool:
        return self.data.exists() and (self.folder / "port").exists()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text(encoding="ascii").strip()

    @property
    def port(self) -> int:
        return int((self.folder / "port").read_text(encoding="ascii"))

    @property
    def authority(self) -> Path:
        """The certificate that the server's own is signed by; everybody may read it."""
        return self.folder / "public" / "ca.crt"

    def address(self, database: str) -> str:
        """How functions reach a database of it, without a login."""
        return f"postgres://127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """How whoever runs as this user reaches it."""
        return f"postgres://{USER}@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            start = ("-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "60", "start")
            done = self._command("pg_ctl", *start, check=False)
            if done.returncode == 0:
                return
            # Of one that was killed, processes may still hold its memory for a moment.
            if time.monotonic() > deadline:
                raise self._failed("pg_ctl", done)
            time.sleep(0.2)

    def running(self) -> bool:
        # Not by its process: one that was killed stays in the table of processes until somebody asks for it.
        asked = self._command("pg_isready", "-h", str(self.folder), "-p", str(self.port), "-t", "5", check=False)
        return asked.returncode in (READY, STARTING)

    def stop(self) -> None:
        if self.running():
            self._command("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "stop", check=False)

    def remove(self) -> None:
        """Ends it at once and leaves nothing."""
        if self.created() and self.running():
            self._command("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, name: str) -> None:
        """Makes a database where there is none of that name."""
        query = f"select 1 from pg_database where datname = '{name}'"
        if not self._psql(query).strip():
            self._psql(f"create database {name}")

    def _psql(self, sql: str) -> str:
        url = self.socket_url("postgres")
        return self._command("psql", url, "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql).stdout

    def _write_settings(self, durable: bool) -> None:
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": self.folder, "ssl": "on",
            "ssl_cert_file": self.folder / "server.crt", "ssl_key_file": self.folder / "server.key",
            "max_connections": 300, "jit": "off", "timezone": "UTC", "shared_buffers": "128MB",
        }  # fmt: skip
        if not durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(hba, encoding="ascii")
        # The last one: it says that all is there.
        (self.folder / "port").write_text(str(port), encoding="ascii")

    def _own(self, path: Path) -> None:
        if self.owner:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        done = self._command(program, *arguments, check=False)
        if done.returncode:
            raise self._failed(program, done)

    def _failed(self, program: str, done: subprocess.CompletedProcess[str]) -> SystemExit:
        log = self.folder / "log"
        lines = log.read_text(errors="replace").splitlines()[-SHOWN:] if log.exists() else []
        return SystemExit("\n".join([f"PostgreSQL: {program} failed: {done.stdout}{done.stderr}", *lines]))

    def _command(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        become = {}
        if self.owner:
            become = {"user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []}
        return subprocess.run(
            [str(self.bin / program), *arguments],
            check=check, capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, **become,
        )  # fmt: skip


def find_programs() -> Path:
    """Where PostgreSQL's programs are: named by PG_BIN, asked of pg_config, or where Debian puts them, newest first."""
    candidates = [os.environ.get("PG_BIN", "")]
    if shutil.which("pg_config"):
        asked = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(asked.stdout.strip())
    candidates += sorted((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin")), key=_version, reverse=True)
    for candidate in filter(None, candidates):
        if (Path(candidate) / "initdb").exists():
            return Path(candidate)
    raise SystemExit("PostgreSQL is missing: apt-get install postgresql, or name its programs' folder by PG_BIN")


def _version(folder: str) -> int:
    name = Path(folder).parent.name
    return int(name) if name.isdigit() else 0


def _owner() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as where this is root, which it refuses."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("there is no user whom PostgreSQL could run as: add one called postgres")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificates(folder: Path) -> None:
    """An authority, a certificate of it for this machine's own address, and another authority, which signed nothing."""
    authority_key, authority = _authority("Tasker local authority")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _builder("localhost", authority.subject, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _, other = _authority("Another authority")
    public = folder / "public"
    public.mkdir(exist_ok=True)
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    for file in (folder / "ca.crt", public / "ca.crt"):
        file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (public / "other-ca.crt").write_bytes(other.public_bytes(serialization.Encoding.PEM))


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(name, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
    )
