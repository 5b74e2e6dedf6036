#!/usr/bin/env python3
"""Data misses of a cache of 1 MiB per proxied request when all connections have one in flight: cachegrind's model of a
core's second-level cache (16 ways, lines of 64 octets), millrace on its epoll driver. One process plays all clients and
the origin: the origin answers when it has all requests of a round.

    bench/misses.py [--connections 1024] [--binary PATH]
"""
import re, resource, selectors, socket, sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import instructions as shared

# Met with 152; it was 168 before the exchange was cut into rooms.
LIMIT = 165


def play(port, listener, count, rounds):
    clients = [shared.connect(port) for _ in range(count)]
    poll, upstream, answer = selectors.DefaultSelector(), {}, shared.ANSWER % b""
    listener.setblocking(False)
    poll.register(listener, selectors.EVENT_READ)
    for _ in range(rounds):
        for client in clients:
            client.sendall(shared.REQUEST)
        waiting = []
        while len(waiting) < count:
            for key, _ in poll.select():
                if key.fileobj is listener:
                    stream, _ = listener.accept()
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    poll.register(stream, selectors.EVENT_READ)
                    upstream[stream] = b""
                    continue
                stream = key.fileobj
                data = stream.recv(65536)
                if not data:
                    poll.unregister(stream)
                    continue
                upstream[stream] += data
                if upstream[stream].endswith(b"\r\n\r\n"):
                    upstream[stream] = b""
                    waiting.append(stream)
        for stream in waiting:
            stream.sendall(answer)
        for client in clients:
            got = b""
            while not got.endswith(b"origin\n"):
                got += client.recv(65536)


def run(binary, count, rounds):
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    log = shared.OUT / "misses.log"
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", "--D1=49152,12,64", "--I1=32768,8,64",
            "--LL=1048576,16,64", f"--cachegrind-out-file={shared.OUT}/cachegrind.out"]
    process, port = shared.start(tool, log, binary, listener.getsockname()[1])
    play(port, listener, count, rounds)
    shared.stop(process)
    text = log.read_text()
    return [int(re.findall(rf"{what} +misses: +([\d,]+)", text)[-1].replace(",", "")) for what in ("LLd", "I1 ")]


def main():
    words = sys.argv[1:]
    option = lambda name, default: words[words.index(name) + 1] if name in words else default
    count = int(option("--connections", 1024))
    binary = option("--binary", str(shared.ROOT / "target/dist/millrace"))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    few, many = run(binary, count, 3), run(binary, count, 9)
    data, code = [(more - less) / (6 * count) for less, more in zip(few, many)]
    print(f"{count} connections, all in flight: data misses of 1 MiB {data:.1f} (bar {LIMIT}), "
          f"code misses of 32 KiB {code:.0f}, per request")
    sys.exit(0 if data <= LIMIT else 1)


if __name__ == "__main__":
    main()
