#!/usr/bin/env python3
"""Load test: millrace beside nginx, HAProxy and the floor, on one core each.

Follows bench/README.md: proxy on core 0, load and origin on core 1, an autogroup of our
own with high priority, a network namespace with reno of our own if it can be had, proxies
interleaved round by round, ratios taken round by round, answers checked.
"""
import argparse, json, os, re, shutil, signal, statistics, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = ROOT / "bench" / "out"
PORTS = {"ORIGIN": 18000, "NGINX": 18001, "HAPROXY": 18002, "MILLRACE": 18003, "EPOLL": 18005,
         "FLOOR": 18004}
TICK = os.sysconf("SC_CLK_TCK")


def fill(name):
    text = (HERE / name).read_text().replace("@OUT@", str(OUT))
    for key, port in PORTS.items():
        text = text.replace(f"@{key}@", str(port))
    path = OUT / name
    path.write_text(text)
    return str(path)


def start(core, *command):
    return subprocess.Popen(["taskset", "-c", str(core), *command],
                            stdout=subprocess.DEVNULL, stderr=open(OUT / "stderr.log", "a"))


def family(pid):
    """A process and its children: nginx works in a child."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid:
                found.append(int(path.parent.name))
        except (OSError, IndexError):
            pass
    return found


def cpu(pids):
    """CPU seconds of all threads, to the nanosecond."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e9


def foreign(ours):
    """CPU seconds that the whole machine used, to notice neighbours."""
    fields = [int(one) for one in open("/proc/stat").readline().split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def wrk(port, connections, seconds, path):
    text = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
         f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True).stdout
    done = re.search(r"(\d+) requests in ([\d.]+)s, ([\d.]+)(\w+) read", text)
    bad = re.search(r"Non-2xx|Socket errors: .*(read|write|timeout) [1-9]", text)
    if not done or bad:
        print(text, file=sys.stderr)
        raise SystemExit(f"the load on port {port} met errors")
    return int(done[1]), float(done[2])


def enters(pid, seconds, act):
    """io_uring_enter calls while `act` runs, by strace -c."""
    if not shutil.which("strace"):
        return None, act()
    log = OUT / "strace.txt"
    tracer = subprocess.Popen(["strace", "-f", "-c", "-e", "trace=all", "-o", str(log), "-p", str(pid)],
                              stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    result = act()
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    return log.read_text(), result


def quartiles(values):
    values = sorted(values)
    if len(values) < 3:
        return values[0], statistics.median(values), values[-1]
    low, _, high = statistics.quantiles(values, n=4)
    return low, statistics.median(values), high


def begin(arguments, script):
    """A namespace with a congestion control of our own, a high priority, an empty folder for what comes out."""
    if not arguments.namespace and os.geteuid() == 0 and shutil.which("unshare"):
        again = [sys.executable, script, *sys.argv[1:], "--namespace"]
        inside = "ip link set lo up; sysctl -qw net.ipv4.tcp_congestion_control=reno 2>/dev/null; exec \"$@\""
        os.execvp("unshare", ["unshare", "-n", "sh", "-c", inside, "sh", *again])
    os.setsid() if os.getpid() != os.getsid(0) else None
    try:
        Path("/proc/self/autogroup").write_text("-19")
    except OSError:
        pass
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    OUT.chmod(0o755)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", default="1,16,64,256")
    parser.add_argument("--path", default="/")
    parser.add_argument("--only", default="floor,nginx,haproxy,millrace,epoll")
    parser.add_argument("--namespace", action="store_true", help="already inside the namespace")
    arguments = parser.parse_args()
    begin(arguments, __file__)
    (OUT / "100k").write_bytes(os.urandom(100 * 1024))
    (OUT / "10m").write_bytes(os.urandom(10 * 1024 * 1024))
    running = {"origin": start(1, "nginx", "-c", fill("origin.conf"), "-g", "daemon off;")}
    only = arguments.only.split(",")
    program = str(ROOT / "target/dist/millrace")
    commands = {
        "floor": [str(ROOT / "bench/floor/target/release/floor"), str(PORTS["FLOOR"]), str(PORTS["ORIGIN"])],
        "nginx": ["nginx", "-c", fill("nginx.conf"), "-g", "daemon off;"],
        "haproxy": ["haproxy", "-f", fill("haproxy.cfg"), "-db"],
        "millrace": [program, "run", "--cores", "1", "--config", fill("millrace.toml")],
    }
    epoll = OUT / "millrace-epoll.toml"
    epoll.write_text((OUT / "millrace.toml").read_text().replace(str(PORTS["MILLRACE"]), str(PORTS["EPOLL"])))
    commands["epoll"] = [program, "run", "--driver", "epoll", "--cores", "1", "--config", str(epoll)]
    ports = {name: PORTS[name.upper()] for name in commands}
    try:
        for name in only:
            running[name] = start(0, *commands[name])
        time.sleep(1.5)
        for name in only:
            answer = subprocess.run(["curl", "-s", f"http://127.0.0.1:{ports[name]}{arguments.path}"],
                                    capture_output=True).stdout
            if not answer:
                raise SystemExit(f"{name} does not answer")
        pids = {name: family(running[name].pid) for name in only}
        results = {}
        for connections in (int(one) for one in arguments.connections.split(",")):
            rounds = []
            for number in range(arguments.rounds):
                order = only[number % len(only):] + only[:number % len(only)]
                row = {}
                for name in order:
                    wrk(ports[name], connections, 1, arguments.path) if number == 0 else None
                    before = cpu(pids[name])
                    done, took = wrk(ports[name], connections, arguments.seconds, arguments.path)
                    used = cpu(pids[name]) - before
                    row[name] = {"us": used / done * 1e6, "rps": done / took, "busy": used / took}
                rounds.append(row)
                print(f"  {connections} connections, round {number + 1}/{arguments.rounds}",
                      file=sys.stderr, end="\r")
            results[connections] = rounds
            show(connections, rounds, only)
        (OUT / "results.json").write_text(json.dumps(results, indent=1))
        (OUT / "results.svg").write_text(plot(results, only))
        print(f"\nThe picture: {(OUT / 'results.svg').relative_to(ROOT)}")
        if "millrace" in only:
            count_calls(running["millrace"].pid, ports["millrace"])
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def show(connections, rounds, names):
    print(f"\n{connections} connections        CPU us/request   requests/s   core busy   ratio of CPU to floor / nginx / haproxy (quartiles)")
    for name in names:
        us = statistics.median(row[name]["us"] for row in rounds)
        rps = statistics.median(row[name]["rps"] for row in rounds)
        busy = statistics.median(row[name]["busy"] for row in rounds)
        ratios = []
        for other in ("floor", "nginx", "haproxy"):
            if other in names and other != name:
                low, mid, high = quartiles([row[name]["us"] / row[other]["us"] for row in rounds])
                ratios.append(f"{mid:.2f} ({low:.2f}-{high:.2f})")
            else:
                ratios.append("-" if other == name else "")
        print(f"  {name:10} {us:18.2f} {rps:15.0f} {busy:11.2f}   {'   '.join(ratios)}")
    sys.stdout.flush()


COLOURS = {"floor": "#9aa5b1", "nginx": "#3f9142", "haproxy": "#2b6cb0", "millrace": "#d64545", "epoll": "#e8a87c"}


def plot(results, names):
    """CPU time per request as grouped bars, the quartiles as whiskers. Plain SVG, no library."""
    top = max(row[name]["us"] for rounds in results.values() for row in rounds for name in names)
    bar, gap, high, left, base = 26, 34, 260, 70, 330
    group = bar * len(names) + gap
    wide = left + group * len(results) + 20
    place = lambda us: base - us / top * high
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(wide, 560)}" height="400" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="{left}" y="22" font-size="15">CPU time per proxied request, microseconds (less is better)</text>']
    for at, name in enumerate(names):
        x = left + at * 95
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{COLOURS[name]}"/><text x="{x + 17}" y="44">{name}</text>')
    for line in range(5):
        us = top * line / 4
        parts.append(f'<line x1="{left}" x2="{wide}" y1="{place(us):.1f}" y2="{place(us):.1f}" stroke="#e0e0e0"/>'
                     f'<text x="{left - 8}" y="{place(us) + 4:.1f}" text-anchor="end">{us:.0f}</text>')
    for number, (connections, rounds) in enumerate(results.items()):
        start = left + gap / 2 + number * group
        for at, name in enumerate(names):
            low, mid, up = quartiles([row[name]["us"] for row in rounds])
            x = start + at * bar
            parts.append(f'<rect x="{x}" y="{place(mid):.1f}" width="{bar - 4}" height="{base - place(mid):.1f}" fill="{COLOURS[name]}"/>'
                         f'<line x1="{x + 11}" x2="{x + 11}" y1="{place(low):.1f}" y2="{place(up):.1f}" stroke="black"/>'
                         f'<text x="{x + 11}" y="{place(up) - 5:.1f}" text-anchor="middle" font-size="10">{mid:.0f}</text>')
        parts.append(f'<text x="{start + bar * len(names) / 2}" y="{base + 20}" text-anchor="middle">{connections} connections</text>')
    return "\n".join(parts + ["</svg>\n"])


def count_calls(pid, port):
    text, (done, _) = enters(pid, 2, lambda: wrk(port, 64, 2, "/"))
    if text is None:
        return
    print(f"\nSystem calls of millrace per request at 64 connections ({done} requests under strace):")
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and int(fields[3]) / done > 0.005 and fields[-1] != "total":
            print(f"  {fields[-1]:20} {int(fields[3]) / done:.3f}")


if __name__ == "__main__":
    main()
