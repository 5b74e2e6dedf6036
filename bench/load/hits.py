#!/usr/bin/env python3
"""What a hit costs: millrace beside nginx's proxy_cache, Varnish, and a responder that only writes.

Measured like run.py: cache on core 0, load on core 1, rounds interleaved, ratios round by round.
"""
import argparse, json, os, statistics, subprocess, sys, time

import run
from run import OUT, PORTS, ROOT

PORTS["VARNISH"] = 18006
SIZES = {"1k": 1024, "100k": 100 * 1024, "1m": 1024 * 1024}
run.COLOURS["varnish"] = "#8e5ea2"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--sizes", default="1k,100k,1m")
    parser.add_argument("--only", default="floor,nginx,varnish,millrace")
    parser.add_argument("--namespace", action="store_true", help="already inside the namespace")
    arguments = parser.parse_args()
    run.begin(arguments, __file__)
    for name in ("100k", "10m"):
        (OUT / name).write_bytes(b"")
    for name, size in SIZES.items():
        (OUT / name).write_bytes(os.urandom(size))
    only = arguments.only.split(",")
    results = {}
    for size in arguments.sizes.split(","):
        for connections in (64, 256) if size == "1k" else (16,):
            rounds = measure(size, connections, only, arguments)
            label = f"{size}, {connections}"
            results[label] = rounds
            show(label, rounds, only)
    (OUT / "hits.json").write_text(json.dumps(results, indent=1))
    picture = run.plot(results, only).replace("proxied request", "cache hit").replace(" connections</text>", "</text>")
    (OUT / "hits.svg").write_text(picture)
    print(f"\nThe picture: {(OUT / 'hits.svg').relative_to(ROOT)}")


def measure(size, connections, only, arguments):
    path = f"/hit/{size}"
    commands = {
        "floor": [str(ROOT / "bench/floor/target/release/floor"), str(PORTS["FLOOR"]), "answer", str(OUT / size)],
        "nginx": ["nginx", "-c", run.fill("nginx-cache.conf"), "-g", "daemon off;"],
        "varnish": ["varnishd", "-F", "-n", str(OUT / "varnish"), "-a", f"127.0.0.1:{PORTS['VARNISH']}",
                    "-f", run.fill("varnish.vcl"), "-s", "malloc,256m", "-p", "thread_pool_max=5000"],
        "millrace": [str(ROOT / "target/dist/millrace"), "run", "--cores", "1", "--config", run.fill("cache.toml")],
    }
    running = {"origin": run.start(1, "nginx", "-c", run.fill("origin.conf"), "-g", "daemon off;")}
    try:
        for name in only:
            running[name] = run.start(0, *commands[name])
        time.sleep(3 if "varnish" in only else 1)
        expected = (OUT / size).read_bytes()
        for name in only:
            for _ in range(3):
                answer = subprocess.run(["curl", "-s", f"http://127.0.0.1:{PORTS[name.upper()]}{path}"],
                                        capture_output=True).stdout
                if answer != expected:
                    raise SystemExit(f"{name} answers with {len(answer)} octets instead of {len(expected)}")
        # The origin has nothing to do from here on: whoever asks it fails.
        running["origin"].terminate()
        running["origin"].wait()
        pids = {name: run.family(running[name].pid) for name in only}
        rounds = []
        for number in range(arguments.rounds):
            order = only[number % len(only):] + only[:number % len(only)]
            row = {}
            for name in order:
                port = PORTS[name.upper()]
                if number == 0:
                    run.wrk(port, connections, 1, path)
                before = run.cpu(pids[name])
                done, took = run.wrk(port, connections, arguments.seconds, path)
                used = run.cpu(pids[name]) - before
                row[name] = {"us": used / done * 1e6, "rps": done / took, "busy": used / took}
            rounds.append(row)
            print(f"  {size}, {connections} connections, round {number + 1}/{arguments.rounds}", file=sys.stderr, end="\r")
        return rounds
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def show(label, rounds, names):
    print(f"\n{label} connections          CPU us/hit        hits/s   core busy   ratio to floor / nginx / varnish (quartiles)")
    for name in names:
        us, rps, busy = (statistics.median(row[name][what] for row in rounds) for what in ("us", "rps", "busy"))
        ratios = []
        for other in ("floor", "nginx", "varnish"):
            if other in names and other != name:
                low, mid, high = run.quartiles([row[name]["us"] / row[other]["us"] for row in rounds])
                ratios.append(f"{mid:.2f} ({low:.2f}-{high:.2f})")
            else:
                ratios.append("-")
        print(f"  {name:10} {us:18.2f} {rps:13.0f} {busy:11.2f}   {'   '.join(ratios)}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
