"""sslscan over a TLS listener: nothing old is spoken, and nothing weak is offered.

Started by scripts/peers, which says where the program is."""

import os
import subprocess
import sys
import tempfile

CONFIG = """
[[listener]]
address = "127.0.0.1:0"
tls = { self_signed = ["localhost"] }
[[route]]
respond = {}
"""


def main():
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "scan.toml")
    with open(path, "w") as file:
        file.write(CONFIG)
    proxy = subprocess.Popen([sys.argv[1], "run", "--cores", "1", "--config", path],
                             stderr=subprocess.PIPE, text=True,
                             env=dict(os.environ, XDG_DATA_HOME=folder))
    try:
        port = proxy.stderr.readline().split("https://127.0.0.1:")[1].split()[0].rstrip(",")
        said = subprocess.run(["sslscan", "--no-colour", f"127.0.0.1:{port}"],
                              capture_output=True, text=True, timeout=60).stdout
        for old in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
            assert f"{old}     disabled" in said or f"{old}   disabled" in said, said
        assert "not vulnerable" in said and "Session renegotiation not supported" in said, said
        ciphers = [line for line in said.splitlines() if line.startswith(("Accepted", "Preferred"))]
        assert ciphers and all("GCM" in line or "CHACHA20" in line for line in ciphers), said
        assert all("DHE" in line for line in ciphers), said
        print(f"sslscan: {len(ciphers)} suites, all AEAD with forward secrecy: good")
    finally:
        proxy.terminate()
        proxy.wait()


main()
