"""A real browser through the proxy: headless Chromium loads a page over HTTP/2 and opens a WebSocket on
the same connection (RFC 8441).

Started by scripts/peers, which says where the program is."""

import base64
import hashlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading

PROGRAM = sys.argv[1]
PAGE = b"""<!doctype html><title>waiting</title><img src=/picture><script>
const said = {};
const protocol = () => performance.getEntriesByType('navigation')[0].nextHopProtocol;
const socket = new WebSocket(`wss://${location.host}/ws`);
socket.onopen = () => socket.send('hello');
socket.onmessage = (message) => fetch('/many').then((one) => one.text()).then((text) => {
  document.body.textContent = `protocol=${protocol()} echo=${message.data} many=${text.length}`;
});
socket.onerror = () => { document.body.textContent = 'no WebSocket'; };
</script><body>waiting</body>"""
headers = []


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ws":
            return self.echo()
        body = PAGE if self.path == "/" else b"x" * 300_000
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path == "/" else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        headers.append(dict(self.headers))
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        first, second = self.rfile.read(2)
        mask = self.rfile.read(4)
        data = bytes(one ^ mask[at % 4] for at, one in enumerate(self.rfile.read(second & 0x7F)))
        self.wfile.write(bytes([first, len(data)]) + data)
        self.rfile.read(2)
        self.close_connection = True

    def log_message(self, *_):
        pass


CONFIG = """
[[listener]]
address = "127.0.0.1:0"
tls = {{ self_signed = ["localhost"] }}
[[cluster]]
name = "app"
[[cluster.endpoint]]
address = "127.0.0.1:{port}"
[[route]]
cluster = "app"
upgrade = ["websocket"]
"""


def main():
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "browser.toml")
    with open(path, "w") as file:
        file.write(CONFIG.format(port=origin.server_port))
    proxy = subprocess.Popen([PROGRAM, "run", "--cores", "1", "--config", path],
                             stderr=subprocess.PIPE, text=True,
                             env=dict(os.environ, XDG_DATA_HOME=folder))
    try:
        port = proxy.stderr.readline().split("https://127.0.0.1:")[1].split()[0].rstrip(",")
        page = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={folder}/profile", "--ignore-certificate-errors",
             "--virtual-time-budget=5000", "--dump-dom", f"https://localhost:{port}/"],
            capture_output=True, text=True, timeout=90).stdout
        assert "protocol=h2 echo=hello many=300000" in page, page
        assert len(headers) == 1 and headers[0]["Upgrade"] == "websocket", headers
        assert headers[0]["Via"].startswith("2.0 "), "the WebSocket did not come over HTTP/2"
        print("Chromium: a page over HTTP/2, and a WebSocket on the same connection: good")
    finally:
        proxy.terminate()
        proxy.wait()


main()
