"""nginx in front of a relay, for the tests that look through a proxy."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def start_nginx(
    binary: Path, home: Path, port: int, upstream: int, *, buffering: str = "off"
) -> subprocess.Popen[bytes]:
    """nginx with TLS in front of a relay, configured as in the README, with kept connections to the relay."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days",
         "1", "-subj", "/CN=chat.test", "-addext", "subjectAltName=DNS:chat.test"],
        cwd=home, check=True, capture_output=True,
    )  # fmt: skip
    temporary = "\n".join(
        f"{kind}_temp_path {home}/t;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(f"""
        daemon off; pid {home}/pid; error_log stderr; {"user root;" if os.geteuid() == 0 else ""}
        events {{}}
        http {{
            access_log off; {temporary}
            map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
            upstream relay {{ server 127.0.0.1:{upstream}; keepalive 4; }}
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;
                location / {{
                    proxy_pass http://relay;
                    proxy_http_version 1.1;
                    proxy_set_header Host $host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $connection_upgrade;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_buffering {buffering}; proxy_read_timeout 60s;
                }}
            }}
        }}""")
    return subprocess.Popen([binary, "-p", home, "-c", home / "nginx.conf"], stderr=subprocess.DEVNULL)


def start_plain_nginx(binary: Path, home: Path, port: int, upstream: int) -> subprocess.Popen[bytes]:
    """nginx as it is without a word about WebSockets or buffering: it passes on no Upgrade, and collects answers."""
    temporary = "\n".join(
        f"{kind}_temp_path {home}/t;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(f"""
        daemon off; pid {home}/pid; error_log stderr; {"user root;" if os.geteuid() == 0 else ""}
        events {{}}
        http {{
            access_log off; {temporary}
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
            }}
        }}""")
    return subprocess.Popen([binary, "-p", home, "-c", home / "nginx.conf"], stderr=subprocess.DEVNULL)


async def accepts(port: int) -> None:
    """Wait until connections to a port are accepted."""
    for _ in range(200):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            break
        await asyncio.sleep(0.02)
