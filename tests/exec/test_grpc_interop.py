"""Any gRPC client can drive the init: python3-grpcio against the init's own server code.

The server is build/test/exec-serve (make build/test/exec-serve): the init's service on a Unix socket
of this host, so that no VM is needed.
"""

import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

grpc = pytest.importorskip("grpc")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("EC1_BUILD", ROOT / "build"))


@pytest.fixture(scope="module")
def pb(tmp_path_factory):
    out = tmp_path_factory.mktemp("pb")
    subprocess.run(
        ["protoc", f"--proto_path={ROOT}/src/proto", f"--python_out={out}", "exec.proto"], check=True
    )
    sys.path.insert(0, str(out))
    import exec_pb2

    return exec_pb2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    subprocess.run(["make", "-s", "-C", str(ROOT), "build/test/exec-serve"], check=True)
    path = tmp_path_factory.mktemp("serve") / "s"
    with subprocess.Popen(
        [str(BUILD / "test/exec-serve"), str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield f"unix:{path}"
        process.kill()


@pytest.fixture
def stub(server, pb):
    with grpc.insecure_channel(server) as channel:

        class Stub:
            Exec = channel.stream_stream(
                "/ec1.v1.Init/Exec",
                request_serializer=pb.ExecRequest.SerializeToString,
                response_deserializer=pb.ExecResponse.FromString,
            )
            Info = channel.unary_unary(
                "/ec1.v1.Init/Info",
                request_serializer=pb.InfoRequest.SerializeToString,
                response_deserializer=pb.InfoResponse.FromString,
            )
            Connect = channel.stream_stream(
                "/ec1.v1.Init/Connect",
                request_serializer=pb.ConnectRequest.SerializeToString,
                response_deserializer=pb.ConnectResponse.FromString,
            )
            Nothing = channel.unary_unary("/ec1.v1.Init/Nothing")

        yield Stub


def start(pb, argv, **more):
    more.setdefault("env", [b"PATH=/usr/bin:/bin"])
    return pb.ExecRequest(
        start=pb.ExecStart(argv=[a if isinstance(a, bytes) else a.encode() for a in argv], **more)
    )


def run(stub, pb, argv, stdin=None, **more):
    def requests():
        yield start(pb, argv, stdin=stdin is not None, **more)
        for at in range(0, len(stdin or b""), 65536):
            yield pb.ExecRequest(stdin=stdin[at : at + 65536])

    out, err, end = b"", b"", None
    for response in stub.Exec(requests(), timeout=60):
        assert end is None, "nothing follows the exit"
        kind = response.WhichOneof("what")
        if kind == "stdout":
            out += response.stdout
        elif kind == "stderr":
            err += response.stderr
        elif kind in ("exit", "failure"):
            end = getattr(response, kind)
    return out, err, end


def test_streams_are_separate(stub, pb):
    out, err, end = run(stub, pb, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (out, err, end.status, end.signal) == (b"out\n", b"err\n", 7, 0)


def test_stdin_ends_with_the_requests(stub, pb):
    data = bytes(range(256)) * 4096 * 8
    out, _, end = run(stub, pb, ["cat"], stdin=data)
    assert end.status == 0
    assert out == data


def test_argv_is_verbatim(stub, pb):
    out, _, _ = run(stub, pb, ["printf", "[%s]", b"", b"a b", b"\xff\n"])
    assert out == b"[][a b][\xff\n]"


def test_not_found_and_not_executable(stub, pb):
    _, _, end = run(stub, pb, ["no-such-command"])
    assert end.kind == pb.Failure.NOT_FOUND
    _, _, end = run(stub, pb, ["/etc/passwd"])
    assert end.kind == pb.Failure.NOT_EXECUTABLE
    _, _, end = run(stub, pb, ["true"], cwd=b"/no/such/folder")
    assert end.kind == pb.Failure.BAD_REQUEST
    assert "/no/such/folder" in end.message


def test_signal_reaches_the_command(stub, pb):
    started = threading.Event()

    def requests():
        yield start(pb, ["sleep", "60"])
        started.wait(10)
        yield pb.ExecRequest(signal=15)

    end = None
    for response in stub.Exec(requests(), timeout=30):
        if response.WhichOneof("what") == "started":
            started.set()
        elif response.WhichOneof("what") == "exit":
            end = response.exit
    assert end.signal == 15


def test_many_at_once_on_one_connection(stub, pb):
    results = {}

    def one(number):
        results[number] = run(stub, pb, ["sh", "-c", f"cat; echo {number}"], stdin=b"x" * 100000)

    hanging = stub.Exec(iter([start(pb, ["sleep", "1000"])]))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hanging.cancel()
    for number in range(16):
        assert results[number][0] == b"x" * 100000 + f"{number}\n".encode()


def test_cancel_ends_the_command(stub, pb):
    call = stub.Exec(iter([start(pb, ["sleep", "1001"])]))
    pid = next(iter(call)).started
    call.cancel()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the command outlived its client")


def test_a_slow_reader_holds_the_command_back(stub, pb):
    call = stub.Exec(iter([start(pb, ["sh", "-c", "head -c 200000000 /dev/zero; echo end >&2"])]))
    responses = iter(call)
    next(responses)
    time.sleep(1)
    total, tail = 0, b""
    for response in responses:
        total += len(response.stdout)
        tail += response.stderr
    assert (total, tail) == (200000000, b"end\n")


def test_a_large_start(stub, pb):
    argv = ["sh", "-c", 'echo "$#"', "sh"] + ["x" * 1000] * 1000
    env = [b"PATH=/usr/bin:/bin"] + [b"V%d=y" % i for i in range(10000)]
    out, _, end = run(stub, pb, argv, env=env)
    assert (out, end.status) == (b"1000\n", 0)


def test_terminal(stub, pb):
    out, _, end = run(
        stub,
        pb,
        ["sh", "-c", "stty size; tty; read line; echo got $line"],
        stdin=b"hello\n",
        tty=True,
        window=pb.WindowSize(rows=33, cols=77),
    )
    shown = out.replace(b"hello\r\n", b"", 1)  # the terminal's echo of the input comes when it likes
    assert shown.startswith(b"33 77\r\n/dev/pts/")
    assert shown.endswith(b"got hello\r\n")
    assert end.status == 0


def test_info(stub, pb):
    assert stub.Info(pb.InfoRequest(), timeout=10).kernel_release == os.uname().release


def test_an_unknown_method_is_refused(stub, pb):
    with pytest.raises(grpc.RpcError) as error:
        stub.Nothing(b"", timeout=10)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_first_request_without_start_is_refused(stub, pb):
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Exec(iter([pb.ExecRequest(stdin=b"x")]), timeout=10))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_port_behind_the_init(stub, pb):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connected = threading.Event()

        def requests():
            yield pb.ConnectRequest(start=pb.ConnectStart(port=port))
            assert connected.wait(60)
            yield pb.ConnectRequest(data=b"request")

        answers = stub.Connect(requests(), timeout=60)
        assert next(answers).connected
        connected.set()
        peer, _ = server.accept()
        with peer:
            assert peer.recv(7, socket.MSG_WAITALL) == b"request" and peer.recv(1) == b""
            peer.sendall(b"answer")
        rest = list(answers)
    assert b"".join(r.data for r in rest) == b"answer" and rest[-1].eof


def test_a_port_that_nobody_serves_is_unavailable(stub, pb):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Connect(iter([pb.ConnectRequest(start=pb.ConnectStart(port=port))]), timeout=60))
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE and "refused" in error.value.details()
    for bad in (pb.ConnectRequest(), pb.ConnectRequest(start=pb.ConnectStart(port=65536)), pb.ConnectRequest(data=b"x")):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Connect(iter([bad]), timeout=60))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
