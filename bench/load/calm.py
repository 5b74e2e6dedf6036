#!/usr/bin/env python3
"""How much later others are served when somebody misbehaves, millrace and nginx each against itself without it:

  slow   one of 100 streams of an HTTP/2 connection is never read; the other 99 (exam M19: 1.5 times)
  flood  500 ClientHellos a second that lead nowhere; requests on a kept TLS connection (L11: 2 times)

Windows with and without alternate; the ratio of their 99th percentiles is taken round by round."""
import argparse, json, os, select, socket, ssl, statistics, subprocess, sys, time

import run
from run import OUT, ROOT, quartiles, start
from tls import MILLRACE, NGINX, ORIGIN_CONF, PORTS, certificate, write

NAMES = ["millrace", "nginx"]
CASES = {"slow": ("99 streams beside one that is not read", 1.5),
         "flood": ("a kept connection beside 500 ClientHellos a second", 2.0)}
HELLOS = 500


def context(*alpn):
    one = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    one.check_hostname, one.verify_mode = False, ssl.CERT_NONE
    one.set_alpn_protocols(list(alpn))
    return one


def connect(port, *alpn):
    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context(*alpn).wrap_socket(plain, server_hostname="localhost")


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def get(path):
    """A header block without a table (RFC 7541)."""
    return b"\x82\x87\x04" + bytes([len(path)]) + path + b"\x01\x09localhost"


def slow(port, seconds, disturbed):
    """Latencies of bursts of 99 requests on one connection, each until its stream ends."""
    link = connect(port, "h2")
    assert link.selected_alpn_protocol() == "h2"
    link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(8, 0, 0, (1 << 30).to_bytes(4, "big")))
    stream = 1
    if disturbed:
        link.sendall(frame(1, 5, stream, get(b"/1m")))
    stream += 2
    rest, block, found, until = b"", get(b"/"), [], time.monotonic() + seconds
    while time.monotonic() < until:
        begun, wanted = time.perf_counter(), set(range(stream, stream + 198, 2))
        link.sendall(b"".join(frame(1, 5, one, block) for one in sorted(wanted)))
        stream += 198
        while wanted:
            rest += link.recv(1 << 18)
            at, now = 0, time.perf_counter()
            while len(rest) - at >= 9:
                size = int.from_bytes(rest[at:at + 3], "big")
                if len(rest) - at < 9 + size:
                    break
                kind, flags, of = rest[at + 3], rest[at + 4], int.from_bytes(rest[at + 5:at + 9], "big")
                assert kind not in (3, 7), f"stream {of} was reset, or all were"
                if kind == 4 and not flags & 1:
                    link.sendall(frame(4, 1, 0))
                if kind in (0, 1) and flags & 1 and of in wanted:
                    wanted.remove(of)
                    found.append(now - begun)
                at += 9 + size
            rest = rest[at:]
        time.sleep(0.01)
    link.close()
    return found


def flooder(port):
    """Sends a ClientHello 500 times a second, reads what comes, and goes. One line says how many it were."""
    os.sched_setaffinity(0, {1})
    outgoing = ssl.MemoryBIO()
    hello = context("http/1.1").wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        pass
    said, sent, begun, is_over = outgoing.read(), 0, time.monotonic(), False
    while not is_over:
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(said)
        one.recv(4096)
        one.close()
        sent += 1
        wait = max(0, begun + sent / HELLOS - time.monotonic())
        is_over = bool(select.select([sys.stdin], [], [], wait)[0])
    print(sent / (time.monotonic() - begun))


def flood(port, seconds, disturbed):
    """Latencies of requests on a kept connection, 2 ms apart."""
    link = connect(port, "http/1.1")
    other = None
    if disturbed:
        other = subprocess.Popen([sys.executable, __file__, "--flood", str(port)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.perf_counter()
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = link.recv(4096)
        while not answer.endswith(b"origin\n"):
            answer += link.recv(4096)
        found.append(time.perf_counter() - begun)
        time.sleep(0.002)
    if other:
        rate = float(other.communicate("\n")[0])
        if rate < 0.9 * HELLOS:
            print(f"  only {rate:.0f} ClientHellos a second", file=sys.stderr)
    link.close()
    return found


def p99(latencies):
    return statistics.quantiles(latencies, n=100)[98] * 1e6


def measure(case, rounds, seconds):
    act, results = {"slow": slow, "flood": flood}[case], {name: [] for name in NAMES}
    for number in range(rounds):
        for name in NAMES:
            # Which comes first changes: a machine's moods are nobody's fault.
            order = (False, True) if number % 2 == 0 else (True, False)
            found = {disturbed: p99(act(PORTS[name], seconds, disturbed)) for disturbed in order}
            results[name].append((found[False], found[True]))
        print(f"  {case}, round {number + 1}/{rounds}", file=sys.stderr, end="\r")
    return results


def show(case, results):
    what, bar = CASES[case]
    print(f"\n{what:52} p99 us without, with   ratio (quartiles), bar {bar}")
    for name, rounds in results.items():
        low, mid, high = quartiles([with_it / without for without, with_it in rounds])
        without, with_it = (statistics.median(row[at] for row in rounds) for at in (0, 1))
        print(f"  {name:50} {without:10.0f} {with_it:10.0f}   {mid:.2f} ({low:.2f}-{high:.2f})")
    sys.stdout.flush()


def plot(all_results):
    """Bars around one, and what is allowed. Plain SVG, no library."""
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="560" height="320" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             '<text x="20" y="24" font-size="15">p99 with somebody who misbehaves, against without (less is better)</text>']
    place = lambda ratio: 260 - min(ratio, 2.5) * 85
    parts.append(f'<line x1="50" x2="540" y1="{place(1)}" y2="{place(1)}" stroke="#666"/>'
                 f'<text x="42" y="{place(1) + 4}" text-anchor="end">1</text>')
    for number, (case, results) in enumerate(all_results.items()):
        left = 80 + number * 240
        for at, (name, colour) in enumerate((("millrace", "#d64545"), ("nginx", "#3f9142"))):
            low, mid, high = quartiles([with_it / without for without, with_it in results[name]])
            x = left + at * 70
            parts.append(f'<rect x="{x}" y="{place(mid):.1f}" width="60" height="{260 - place(mid):.1f}" fill="{colour}"/>'
                         f'<line x1="{x + 30}" x2="{x + 30}" y1="{place(low):.1f}" y2="{place(high):.1f}" stroke="black"/>'
                         f'<text x="{x + 30}" y="275" text-anchor="middle">{name} {mid:.2f}</text>')
        bar = CASES[case][1]
        parts.append(f'<line x1="{left - 10}" x2="{left + 140}" y1="{place(bar)}" y2="{place(bar)}" stroke="black" stroke-dasharray="4"/>'
                     f'<text x="{left + 65}" y="295" text-anchor="middle">{CASES[case][0]}</text>')
    return "\n".join(parts) + "</svg>\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--namespace", action="store_true", help="already inside the namespace")
    arguments = parser.parse_args()
    if arguments.flood:
        return flooder(arguments.flood)
    run.begin(arguments, __file__)
    os.sched_setaffinity(0, {1})
    (OUT / "1m").write_bytes(os.urandom(1 << 20))
    certificate()
    running = [start(1, "nginx", "-c", write("origin-tls.conf", ORIGIN_CONF), "-g", "daemon off;"),
               start(0, str(ROOT / "target/dist/millrace"), "run", "--cores", "1", "--config",
                     write("millrace-tls.toml", MILLRACE, PORTS["millrace"])),
               start(0, "nginx", "-c", write("nginx-tls.conf", NGINX, PORTS["nginx"]), "-g", "daemon off;")]
    try:
        time.sleep(1.5)
        results = {}
        for case in arguments.cases.split(","):
            results[case] = measure(case, arguments.rounds, arguments.seconds)
            show(case, results[case])
        (OUT / "calm.json").write_text(json.dumps(results, indent=1))
        (OUT / "calm.svg").write_text(plot(results))
        print(f"\nThe picture: {(OUT / 'calm.svg').relative_to(ROOT)}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


if __name__ == "__main__":
    main()
