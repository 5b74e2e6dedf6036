"""The dashboard in a real browser: headless Chromium shows it idle, under load, with an endpoint down and after a reload
that was refused.

Started by scripts/peers, which says where the program is; a folder as second argument keeps the pictures."""

import http.server
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

PROGRAM = sys.argv[1]
PICTURES = sys.argv[2] if len(sys.argv) > 2 else None


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(0.002 if self.path != "/slow" else 0.03)
        status = 503 if self.path == "/bad" else 200
        self.send_response(status)
        self.send_header("Cache-Control", "max-age=1" if self.path == "/cached" else "no-store")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def shot(name, width, marks, address):
    """Loads the page, waits for it to have asked some times, and looks for texts in what it shows."""
    with tempfile.TemporaryDirectory() as profile:
        base = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
                "--virtual-time-budget=8000", f"--window-size={width},1250"]
        dom = subprocess.run(base + ["--dump-dom", f"http://{address}/"], capture_output=True, text=True, timeout=90).stdout
        if PICTURES:
            picture = os.path.join(PICTURES, f"dashboard-{name}.png")
            subprocess.run(base + [f"--screenshot={picture}", f"http://{address}/"], capture_output=True, timeout=90)
    missing = [mark for mark in marks if mark not in dom]
    assert not missing, f"{name}: the page does not show {missing}:\n{dom[-3000:]}"
    print(f"dashboard {name}: shows {', '.join(marks)}")


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port, admin, web = server.server_port, f"127.0.0.1:{free()}", free()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "millrace.toml")
        config = f"""
[server]
cores = 2
[admin]
address = "{admin}"
[[listener]]
name = "web"
address = "127.0.0.1:{web}"
[[cluster]]
name = "app"
health = {{ type = "off" }}
[[cluster.endpoint]]
address = "127.0.0.1:{port}"
[[cluster.endpoint]]
address = "127.0.0.1:{free()}"
[[route]]
name = "pages"
cluster = "app"
[[route]]
name = "cached"
path = "/cached"
cluster = "app"
cache = true
[[route]]
name = "slow"
path = "/slow"
cluster = "app"
"""
        open(path, "w").write(config)
        proxy = subprocess.Popen([PROGRAM, "run", path], stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://{admin}/healthz").read()
                    break
                except OSError:
                    time.sleep(0.05)
            shot("idle", 1200, ["requests a second", "127.0.0.1", "none"], admin)
            is_over = threading.Event()

            def load():
                paths = ["/", "/cached", "/slow", "/bad"]
                count = 0
                while not is_over.is_set():
                    count += 1
                    try:
                        urllib.request.urlopen(f"http://127.0.0.1:{web}{paths[count % 97 % 4]}").read()
                    except urllib.error.HTTPError:
                        pass

            threads = [threading.Thread(target=load) for _ in range(4)]
            [one.start() for one in threads]
            time.sleep(2)
            shot("load", 1200, ["pages", "cached", "unreachable", "/bad"], admin)
            shot("phone", 420, ["pages", "unreachable"], admin)
            open(path, "w").write("[[listener]]\n")
            request = urllib.request.Request(f"http://{admin}/reload", method="POST")
            try:
                urllib.request.urlopen(request)
                raise AssertionError("a bad configuration was taken")
            except urllib.error.HTTPError as error:
                assert error.code == 422, error.code
            shot("refused", 1200, ["pages", "unreachable"], admin)
            is_over.set()
            [one.join() for one in threads]
        finally:
            proxy.terminate()
            proxy.wait()


main()
