#!/usr/bin/env python3
"""TLS and HTTP/2 beside nginx and HAProxy, on one core each: full and resumed handshakes, requests on
kept connections, bodies of 1 MiB, HTTP/2 with many streams.

The figure is the CPU that the proxy uses for one of them; proxies are interleaved round by round and
ratios taken round by round (bench/README.md). What a client costs does not count, so a slow
one will do for handshakes: Python's."""
import argparse, json, os, re, socket, ssl, statistics, subprocess, sys, time
from pathlib import Path

import run
from run import OUT, ROOT, cpu, family, quartiles, start

PORTS = {"nginx": 18101, "haproxy": 18102, "millrace": 18103}
ORIGIN = 18100
NAMES = ["nginx", "haproxy", "millrace"]
CASES = ["full", "resumed", "kept", "bodies", "h2"]

NGINX = """
worker_processes 1; worker_cpu_affinity 01; pid @OUT@/nginx.pid; error_log @OUT@/nginx.log crit;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s;
  upstream app { server 127.0.0.1:@ORIGIN@; keepalive 1024; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:@PORT@ ssl http2 backlog=4096;
    http2_max_concurrent_streams 128;
    ssl_certificate @OUT@/pair.pem; ssl_certificate_key @OUT@/pair.pem;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;
    }
  }
}
"""
HAPROXY = """
global
  nbthread 1
  cpu-map auto:1/1 0
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout client 3600s
  timeout server 30s
  timeout connect 2s
  timeout http-keep-alive 3600s
  http-reuse always
frontend web
  bind 127.0.0.1:@PORT@ ssl crt @OUT@/pair.pem alpn h2,http/1.1
  option forwardfor
  default_backend app
backend app
  server origin 127.0.0.1:@ORIGIN@ pool-max-conn 2048 pool-purge-delay 3600s
"""
MILLRACE = """
[[listener]]
address = "127.0.0.1:@PORT@"
[listener.tls]
certificates = [{ certificate = "@OUT@/pair.pem", key = "@OUT@/pair.pem" }]
[http2]
streams = 128
[[cluster]]
name = "app"
[[cluster.endpoint]]
address = "127.0.0.1:@ORIGIN@"
[[route]]
cluster = "app"
"""
ORIGIN_CONF = """
worker_processes 1; pid @OUT@/origin.pid; error_log @OUT@/origin.log crit;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s;
  server {
    listen 127.0.0.1:@ORIGIN@ backlog=4096;
    location / { default_type text/plain; return 200 "hello from the origin\\n"; }
    location /1m { root @OUT@; try_files /1m =404; }
  }
}
"""


def write(name, text, port=0):
    path = OUT / name
    path.write_text(text.replace("@OUT@", str(OUT)).replace("@ORIGIN@", str(ORIGIN))
                    .replace("@PORT@", str(port)))
    return str(path)


def certificate():
    """A pair for localhost, in one file."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", OUT / "key.pem", "-out", OUT / "cert.pem", "-days", "30",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)
    (OUT / "pair.pem").write_text((OUT / "cert.pem").read_text() + (OUT / "key.pem").read_text())


def context():
    one = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    one.check_hostname = False
    one.verify_mode = ssl.CERT_NONE
    one.minimum_version = ssl.TLSVersion.TLSv1_3
    return one


def connect(port, tls, session=None):
    """A handshake, a request, the end. Returns a session for the next time."""
    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with tls.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
        secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = secure.recv(4096)
        assert b"200" in answer[:20], answer
        if session is not None:
            assert secure.session_reused, "not resumed"
        return secure.session


def handshakes(port, seconds, resumed):
    # Pinned beside the origin, away from the proxy.
    os.sched_setaffinity(0, {1})
    tls, done = context(), 0
    session = connect(port, tls) if resumed else None
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        new = connect(port, tls, session)
        session = new if resumed else None
        done += 1
    return done, time.monotonic() - begun


def wrk(port, seconds, path):
    text = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s",
                           f"https://127.0.0.1:{port}{path}"], capture_output=True, text=True).stdout
    done = re.search(r"(\d+) requests in ([\d.]+)s", text)
    if not done or "Non-2xx" in text:
        raise SystemExit(f"the load on port {port} met errors\n{text}")
    return int(done[1]), float(done[2])


def h2load(port, seconds):
    text = subprocess.run(["taskset", "-c", "1", "h2load", "-c16", "-m32", f"-D{seconds}",
                           f"https://127.0.0.1:{port}/"], capture_output=True, text=True).stdout
    done = re.search(r"(\d+) succeeded, (\d+) failed", text)
    if not done or int(done[1]) == 0:
        raise SystemExit(f"h2load on port {port} met errors\n{text}")
    return int(done[1]), seconds


def act(case, port, seconds):
    if case in ("full", "resumed"):
        return handshakes(port, seconds, case == "resumed")
    if case == "h2":
        return h2load(port, seconds)
    return wrk(port, seconds, "/1m" if case == "bodies" else "/")


WORDS = {"full": "full handshake, TLS 1.3, P-256, request, close", "resumed": "the same, resumed",
         "kept": "request on a kept connection, 64 of them", "bodies": "body of 1 MiB, 64 connections",
         "h2": "request over HTTP/2, 16 connections, 32 streams"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--namespace", action="store_true", help="already inside the namespace")
    arguments = parser.parse_args()
    run.begin(arguments, __file__)
    (OUT / "1m").write_bytes(os.urandom(1 << 20))
    certificate()
    program = str(ROOT / "target/dist/millrace")
    commands = {
        "nginx": ["nginx", "-c", write("nginx-tls.conf", NGINX, PORTS["nginx"]), "-g", "daemon off;"],
        "haproxy": ["haproxy", "-f", write("haproxy-tls.cfg", HAPROXY, PORTS["haproxy"]), "-db"],
        "millrace": [program, "run", "--cores", "1", "--config",
                     write("millrace-tls.toml", MILLRACE, PORTS["millrace"])],
    }
    running = {"origin": start(1, "nginx", "-c", write("origin-tls.conf", ORIGIN_CONF), "-g", "daemon off;")}
    results = {}
    try:
        for name in NAMES:
            running[name] = start(0, *commands[name])
        time.sleep(1.5)
        pids = {name: family(running[name].pid) for name in NAMES}
        for case in arguments.cases.split(","):
            rounds = []
            for number in range(arguments.rounds):
                row = {}
                for name in NAMES[number % 3:] + NAMES[:number % 3]:
                    if number == 0:
                        act(case, PORTS[name], 1)
                    before = cpu(pids[name])
                    done, took = act(case, PORTS[name], arguments.seconds)
                    row[name] = {"us": (cpu(pids[name]) - before) / done * 1e6, "rate": done / took}
                rounds.append(row)
                print(f"  {case}, round {number + 1}/{arguments.rounds}", file=sys.stderr, end="\r")
            results[case] = rounds
            show(case, rounds)
        (OUT / "tls.json").write_text(json.dumps(results, indent=1))
        (OUT / "tls.svg").write_text(plot(results))
        print(f"\nThe picture: {(OUT / 'tls.svg').relative_to(ROOT)}")
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def show(case, rounds):
    print(f"\n{WORDS[case]:52} CPU us    per s   CPU against nginx, HAProxy (quartiles)")
    for name in NAMES:
        us = statistics.median(row[name]["us"] for row in rounds)
        rate = statistics.median(row[name]["rate"] for row in rounds)
        ratios = []
        for other in ("nginx", "haproxy"):
            if other != name:
                low, mid, high = quartiles([row[name]["us"] / row[other]["us"] for row in rounds])
                ratios.append(f"{mid:.2f} ({low:.2f}-{high:.2f})")
        print(f"  {name:50} {us:8.1f} {rate:8.0f}   {'   '.join(ratios)}")
    sys.stdout.flush()


def plot(results):
    """What millrace costs beside the others, as bars around one. Plain SVG, no library."""
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="720" height="330" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             '<text x="20" y="24" font-size="15">CPU of millrace for each, as a part of the other\'s (less is better)</text>']
    place = lambda ratio: 270 - min(ratio, 2) * 110
    for ratio in (0.5, 1, 1.5, 2):
        parts.append(f'<line x1="50" x2="700" y1="{place(ratio)}" y2="{place(ratio)}" stroke="{"#666" if ratio == 1 else "#ddd"}"/>'
                     f'<text x="42" y="{place(ratio) + 4}" text-anchor="end">{ratio}</text>')
    for number, (case, rounds) in enumerate(results.items()):
        for at, (other, colour) in enumerate((("nginx", "#3f9142"), ("haproxy", "#2b6cb0"))):
            low, mid, high = quartiles([row["millrace"]["us"] / row[other]["us"] for row in rounds])
            x = 70 + number * 128 + at * 44
            parts.append(f'<rect x="{x}" y="{place(mid):.1f}" width="38" height="{270 - place(mid):.1f}" fill="{colour}"/>'
                         f'<line x1="{x + 19}" x2="{x + 19}" y1="{place(low):.1f}" y2="{place(high):.1f}" stroke="black"/>'
                         f'<text x="{x + 19}" y="{place(high) - 5:.1f}" text-anchor="middle" font-size="10">{mid:.2f}</text>')
        parts.append(f'<text x="{70 + number * 128 + 41}" y="290" text-anchor="middle">{case}</text>')
    parts.append('<rect x="70" y="305" width="12" height="12" fill="#3f9142"/><text x="88" y="315">against nginx</text>'
                 '<rect x="190" y="305" width="12" height="12" fill="#2b6cb0"/><text x="208" y="315">against HAProxy</text></svg>\n')
    return "\n".join(parts)


if __name__ == "__main__":
    main()
