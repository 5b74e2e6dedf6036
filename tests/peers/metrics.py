"""What Prometheus and Grafana are given: promtool is content with the metrics and the alerts, which it also tries; every
expression of the dashboard is PromQL, and asks only for metrics that there are.

Started by scripts/peers, which says where the program is."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

MONITORING = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "monitoring")
CONFIG = """
[admin]
address = "unix:%s/admin.sock"
[[listener]]
name = "secure"
address = "127.0.0.1:0"
tls = { self_signed = ["localhost"] }
[[listener]]
name = "plain"
address = "127.0.0.1:0"
[[route]]
cluster = "app"
cache = true
[[route]]
path = "/fixed"
respond = {}
[[cluster]]
name = "app"
[[cluster.endpoint]]
address = "127.0.0.1:9"
"""


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def promtool(*words, data=None):
    done = subprocess.run(["promtool", *words], input=data, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), (words, done)
    return done.stdout


def dashboard():
    """Its expressions, with all that Grafana puts into them."""
    with open(os.path.join(MONITORING, "grafana.json")) as file:
        panels = json.load(file)["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [re.sub(r"\$\w+", lambda word: "5m" if "interval" in word[0] else ".*", one) for one in found]


def main():
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "metrics.toml")
    with open(path, "w") as file:
        file.write(CONFIG % folder)
    proxy = subprocess.Popen([sys.argv[1], "run", "--cores", "1", "--config", path], stderr=subprocess.PIPE, text=True,
                             env=dict(os.environ, XDG_DATA_HOME=folder))
    try:
        said = ""
        while "listening on" not in said and proxy.poll() is None:
            said += proxy.stderr.readline()
        assert "listening on" in said, said + proxy.stderr.read()
        port = int(re.search(r"http://127.0.0.1:(\d+)", said)[1])
        for path in ("/fixed", "/gone"):
            client = http.client.HTTPConnection("127.0.0.1", port)
            client.request("GET", path)
            client.getresponse().read()
        admin = Unix(os.path.join(folder, "admin.sock"))
        admin.request("GET", "/metrics")
        text = admin.getresponse().read().decode()
    finally:
        proxy.terminate()
        proxy.wait()
    said = promtool("check", "metrics", data=text)
    assert not said.strip(), said
    promtool("check", "rules", os.path.join(MONITORING, "alerts.yml"))
    promtool("test", "rules", os.path.join(MONITORING, "alerts_test.yml"))
    asked = dashboard()
    rules = os.path.join(folder, "rules.json")
    with open(rules, "w") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": [
            {"record": f"panel:{at}", "expr": one} for at, one in enumerate(asked)]}]}, file)
    promtool("check", "rules", rules)
    with open(os.path.join(MONITORING, "alerts.yml")) as file:
        asked.append(file.read())
    names = {name for one in asked for name in re.findall(r"\bmillrace_\w+", one)}
    told = set(re.findall(r"^(millrace_\w+)", text, re.M))
    assert names <= told, names - told
    print(f"promtool: {len(told)} metrics, alerts and {len(asked) - 1} panels: good")


main()
