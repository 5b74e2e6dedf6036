"""Real gRPC through the proxy: a server and a client from PyPI (grpcio, grpcio-health-checking), unary
calls and all three kinds of streams, deadlines, cancellation, statuses, over clear text and TLS.

Started by scripts/peers, which says where the program is."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

PROGRAM = sys.argv[1]
raw = lambda octets: octets
seen = {"cancelled": threading.Event(), "deadline": None}


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        kind = details.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary, raw, raw),
            "Many": grpc.unary_stream_rpc_method_handler(self.many, raw, raw),
            "Sum": grpc.stream_unary_rpc_method_handler(self.total, raw, raw),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat, raw, raw),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail, raw, raw),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang, raw, raw),
        }.get(kind)

    def unary(self, request, context):
        seen["deadline"] = context.time_remaining()
        context.set_trailing_metadata((("x-sum", str(len(request))),))
        return request

    def many(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def total(self, requests, context):
        return b"%d" % sum(len(one) for one in requests)

    def chat(self, requests, context):
        for one in requests:
            yield one[::-1]

    def fail(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "there is none: 100%")

    def hang(self, request, context):
        context.add_callback(seen["cancelled"].set)
        seen["cancelled"].wait(20)
        return b""


def server(checks):
    one = grpc.server(futures.ThreadPoolExecutor(16))
    one.add_generic_rpc_handlers((Echo(),))
    health_pb2_grpc.add_HealthServicer_to_server(checks, one)
    port = one.add_insecure_port("127.0.0.1:0")
    one.start()
    return one, port


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("it was answered")


def calls(channel, what):
    ask = lambda kind, name: getattr(channel, kind)(f"/t.Echo/{name}", raw, raw)
    reply, call = ask("unary_unary", "Unary").with_call(b"x" * 100_000, timeout=20)
    assert reply == b"x" * 100_000
    assert ("x-sum", "100000") in [tuple(one) for one in call.trailing_metadata()]
    assert 15 < seen["deadline"] <= 20, seen["deadline"]
    many = list(ask("unary_stream", "Many")(b"1000"))
    assert many == [b"%d" % number for number in range(1000)]
    assert ask("stream_unary", "Sum")(iter([b"ab"] * 500)) == b"1000"
    # One at a time, both ways: nothing may wait for the end of the other direction.
    gate = threading.Semaphore(0)

    def questions():
        for number in range(20):
            gate.acquire()
            yield b"q%d" % number

    chat = ask("stream_stream", "Chat")(questions())
    for number in range(20):
        gate.release()
        assert next(chat) == (b"q%d" % number)[::-1]
    assert list(chat) == []
    assert refused(lambda: ask("unary_unary", "Fail")(b"")) == (
        grpc.StatusCode.NOT_FOUND, "there is none: 100%")
    assert refused(lambda: ask("unary_unary", "None")(b""))[0] == grpc.StatusCode.UNIMPLEMENTED
    # A deadline ends the call on both sides, and so does a change of mind.
    for wait in (0.5, None):
        seen["cancelled"].clear()
        if wait:
            begun = time.monotonic()
            code, _ = refused(lambda: ask("unary_unary", "Hang")(b"", timeout=wait))
            assert code == grpc.StatusCode.DEADLINE_EXCEEDED
            assert time.monotonic() - begun < 3
        else:
            call = ask("unary_unary", "Hang").future(b"")
            time.sleep(0.3)
            call.cancel()
        assert seen["cancelled"].wait(5), "the server was not told"
    print(f"gRPC over {what}: unary, three kinds of streams, statuses, deadline, cancellation: good")


CONFIG = """
[[listener]]
name = "plain"
address = "127.0.0.1:0"
[[listener]]
name = "secure"
address = "127.0.0.1:0"
tls = {{ self_signed = ["localhost"] }}
[[cluster]]
name = "app"
protocol = "http2"
health = {{ type = "grpc", service = "t.Echo", interval = "200ms", fall = 1 }}
[[cluster.endpoint]]
address = "127.0.0.1:{port}"
[[route]]
path = "/t.Echo/"
cluster = "app"
"""


def main():
    checks = health.HealthServicer()
    checks.set("t.Echo", health_pb2.HealthCheckResponse.SERVING)
    origin, port = server(checks)
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "grpc.toml")
    with open(path, "w") as file:
        file.write(CONFIG.format(port=port))
    environment = dict(os.environ, XDG_DATA_HOME=folder)
    proxy = subprocess.Popen([PROGRAM, "run", "--cores", "1", "--config", path],
                             stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = proxy.stderr.readline()
        plain, secure = [part.split("://")[1].rstrip(",") for part in line.split() if "://" in part]
        log = []
        threading.Thread(target=lambda: log.extend(proxy.stderr), daemon=True).start()
        with grpc.insecure_channel(plain) as channel:
            calls(channel, "clear text")
            # Where there is no route, the error is gRPC's.
            code, text = refused(lambda: channel.unary_unary("/other.X/Y", raw, raw)(b""))
            assert code == grpc.StatusCode.UNIMPLEMENTED and "No route" in text, (code, text)
        authority = open(os.path.join(folder, "millrace", "millrace-ca.pem"), "rb").read()
        port = secure.rsplit(":", 1)[1]
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority)) as channel:
            calls(channel, "TLS")
            # The server says that it does not serve: checks put it out.
            checks.set("t.Echo", health_pb2.HealthCheckResponse.NOT_SERVING)
            deadline = time.monotonic() + 5
            while not any("is down" in one or "NOT_SERVING" in one for one in log):
                assert time.monotonic() < deadline, log
                time.sleep(0.05)
            print("gRPC health checks: good")
    finally:
        proxy.terminate()
        proxy.wait()
        origin.stop(None)


main()
