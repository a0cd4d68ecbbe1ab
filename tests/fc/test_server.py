"""The socket: bytes of answers, framing, connections, syntax errors."""

import socket
import threading
import time

import pytest
from microvm import PATIENCE, ok, refused

HEAD = b"Server: Firecracker API\r\nConnection: keep-alive\r\n"
VERSION = b'{"firecracker_version":"1.17.0-dev"}'
VERSION_ANSWER = (
    b"HTTP/1.1 200 \r\n" + HEAD + b"Content-Type: application/json\r\nContent-Length: 36\r\n\r\n" + VERSION
)
DROPPED = b"\nAll previous unanswered requests will be dropped."


def syntax_error(message):
    body = b'{ "error": "' + message + DROPPED + b'" }'
    return (
        b"HTTP/1.1 400 \r\n" + HEAD + b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


def request(method=b"GET", path=b"/version", version=b"HTTP/1.1", fields=b"", body=b""):
    if body:
        fields += b"Content-Length: %d\r\n" % len(body)
    return method + b" " + path + b" " + version + b"\r\n" + fields + b"\r\n" + body


def connect(vm):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10 * PATIENCE)
    s.connect(vm.socket)
    return s


def read(s, count):
    out = b""
    while len(out) < count:
        part = s.recv(count - len(out))
        assert part, out
        out += part
    return out


def test_answers_are_the_same_to_the_byte(vm):
    assert vm.raw(request(), len(VERSION_ANSWER)) == VERSION_ANSWER
    body = b'{"vcpu_count":1,"mem_size_mib":64}'
    want = b"HTTP/1.1 204 \r\n" + HEAD + b"\r\n"
    assert vm.raw(request(b"PUT", b"/machine-config", body=body), len(want)) == want
    body = b'{"vcpu_count":1,"mem_size_mib":64,"cpu_template":"None"}'
    want = b"HTTP/1.1 204 \r\n" + HEAD + b"Deprecation: true\r\n\r\n"
    assert vm.raw(request(b"PUT", b"/machine-config", body=body), len(want)) == want


@pytest.mark.parametrize("data,message", [
    (request(b"POST"), b"Invalid HTTP Method: Unsupported HTTP method."),
    (request(b"get"), b"Invalid HTTP Method: Unsupported HTTP method."),
    (request(version=b"HTTP/2.0"), b"Invalid HTTP Version: Unsupported HTTP version."),
    (b"\r\n", b"Invalid request."),
    (b"GET\r\n", b"Invalid request."),
    (request(path=b""), b"Invalid URI: Empty URI not allowed."),
    (request(path=b"/\xff"), b"Invalid URI: Cannot parse URI as UTF-8."),
    (request(fields=b"bad\r\n"), b"Invalid header. Reason: Header is incorrectly formatted. Key: bad"),
    (request(fields=b"Content-Length: x\r\n"), b"Invalid header. Reason: Invalid value. Key:Content-Length; Value: x"),
    (b"GET /" + b"a" * 2000, b"Invalid request."),
])
def test_syntax_errors_say_what_they_are(vm, data, message):
    want = syntax_error(message)
    assert vm.raw(data, len(want)) == want
    assert vm.raw(request(), len(VERSION_ANSWER)) == VERSION_ANSWER


def test_a_connection_survives_a_syntax_error_and_drops_what_came_before(vm):
    want = syntax_error(b"Invalid HTTP Method: Unsupported HTTP method.")
    with connect(vm) as s:
        s.sendall(request() + request(b"POST"))
        assert read(s, len(want)) == want
        s.sendall(request())
        assert read(s, len(VERSION_ANSWER)) == VERSION_ANSWER


@pytest.mark.parametrize("limit,size", [(None, 51201), (250, 260)])
def test_config_start_with_limit(new_vm, limit, size):
    vm = new_vm(*(("--http-api-max-payload-size", str(limit)) if limit else ()))
    data = request(b"PUT", b"/mmds", fields=b"Content-Length: %d\r\n" % size)
    want = syntax_error(
        b"Request payload with size %d is larger than the limit of %d allowed by server." % (size, limit or 51200)
    )
    assert want.split(b"Content-Length: ")[1].startswith(b"145" if limit else b"149")
    assert vm.raw(data, len(want)) == want


def test_pipelined_requests_are_answered_in_order(vm):
    count = 40
    with connect(vm) as s:
        s.sendall(request() * count)
        assert read(s, len(VERSION_ANSWER) * count) == VERSION_ANSWER * count


def test_requests_may_come_byte_by_byte(vm):
    with connect(vm) as s:
        for byte in request(fields=b"Host: x\r\n"):
            s.sendall(bytes([byte]))
        assert read(s, len(VERSION_ANSWER)) == VERSION_ANSWER


def test_old_versions_and_absolute_uris_are_served(vm):
    for data in (
        request(version=b"HTTP/1.0"),
        request(path=b"http://localhost/version"),
        request(path=b"/version/foo"),
        request(path=b"///version/"),
        request(fields=b"Accept-Encoding: gzip\r\nAccept: */*\r\nX-Y: z\r\n"),
    ):
        assert vm.raw(data, len(VERSION_ANSWER)) == VERSION_ANSWER


def test_expect_is_answered_before_the_body(vm):
    want = b"HTTP/1.1 100 \r\n" + HEAD + b"\r\n"
    with connect(vm) as s:
        s.sendall(b"PUT /machine-config HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 34\r\n\r\n")
        assert read(s, len(want)) == want
        s.sendall(b'{"vcpu_count":1,"mem_size_mib":64}')
        assert read(s, 13) == b"HTTP/1.1 204 "


def test_the_eleventh_connection_is_told_so(vm):
    busy = (
        b"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
        b'{ "error": "Too many open connections" }'
    )
    held = [connect(vm) for _ in range(10)]
    for s in held:  # they are all known to the server
        s.sendall(request())
        read(s, len(VERSION_ANSWER))
    with connect(vm) as s:
        assert read(s, len(busy)) == busy
        assert s.recv(1) == b""
    held.pop().close()
    deadline = time.monotonic() + 10 * PATIENCE
    while vm.raw(request(), len(VERSION_ANSWER)) != VERSION_ANSWER:
        assert time.monotonic() < deadline
    for s in held:
        s.close()


def test_a_client_that_does_not_read_holds_up_nobody(vm):
    with connect(vm) as deaf:
        deaf.setblocking(False)
        try:
            while True:
                deaf.send(request(path=b"/vm/config") * 20)
        except BlockingIOError:
            pass
        assert vm.raw(request(), len(VERSION_ANSWER)) == VERSION_ANSWER


def test_a_half_closed_connection_is_dropped(vm):
    with connect(vm) as s:
        s.sendall(b"GET /version HTTP/1.1\r\n")
        s.shutdown(socket.SHUT_WR)
        try:
            assert s.recv(100) == b""
        except ConnectionResetError:
            pass  # it had bytes that were not read yet


def test_clients_at_once_are_served_one_by_one(vm):
    answers = []

    def work():
        with connect(vm) as s:
            for _ in range(50):
                s.sendall(request())
                answers.append(read(s, len(VERSION_ANSWER)) == VERSION_ANSWER)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [True] * 400


@pytest.mark.parametrize("method,path,body,text", [
    ("GET", "foo/bar", None, "Invalid request method and/or path: GET foo."),
    ("GET", "vm", None, "Invalid request method and/or path: GET vm."),
    ("GET", "drives/x", None, "Invalid request method and/or path: GET drives."),
    ("GET", "version?x=1", None, "Invalid request method and/or path: GET version?x=1."),
    ("DELETE", "vsock", None, "Invalid request method and/or path: DELETE vsock."),
    ("PUT", "snapshot/x", "{}", "Invalid request method and/or path: PUT /snapshot/x."),
    ("PUT", "snapshot", "{}", "Missing snapshot operation type."),
    ("PUT", "hotplug/cpu", "{}", "Invalid request method and/or path: PUT hotplug."),
    ("GET", "version", "{}", "GET request cannot have a body."),
    ("GET", "nowhere", "{}", "GET request cannot have a body."),
    ("PUT", "nowhere", None, "Empty PUT request."),
    ("PATCH", "nowhere", None, "Empty PATCH request."),
    ("PATCH", "balloon", None, "Empty PATCH request."),
    ("DELETE", "drives/a", "{}", "Empty Delete request."),
    ("PUT", "drives", "{}", "The ID cannot be empty."),
    ("PUT", "drives/", "{}", "The ID cannot be empty."),
    ("DELETE", "pmem/", None, "The ID cannot be empty."),
    ("PUT", "drives/a-b", "{}", "API Resource IDs can only contain alphanumeric characters and underscores."),
    ("PUT", "drives/a%20b", "{}", "API Resource IDs can only contain alphanumeric characters and underscores."),
    ("GET", "balloon/x", None, "Unrecognized GET request path `x`."),
    ("GET", "balloon/hinting/x", None, "Unrecognized GET request path `/hinting/x`."),
    ("PATCH", "balloon/hinting/x", None, "Unrecognized PATCH request path `/hinting/x`."),
    ("PUT", "mmds/x", "{}", "Unrecognized PUT request path `x`."),
    ("PUT", "drives/a", {"drive_id": "b", "is_root_device": False, "path_on_host": "x"},
     "The id from the path does not match the id from the body!"),
    ("PUT", "network-interfaces/a", {"iface_id": "b", "host_dev_name": "x"},
     "The id from the path [a] does not match the id from the body [b]!"),
])
def test_what_cannot_be_routed_is_refused(vm, method, path, body, text):
    refused(vm.ask(method, path, body), text)


JSON = "An error occurred when deserializing the json body of a request: "


@pytest.mark.parametrize("method,path,body,text", [
    ("PUT", "machine-config", '{"vcpu_count":2}', "missing field `mem_size_mib` at line 1 column 16."),
    ("PUT", "machine-config", '{"foo":2}', "unknown field `foo`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, "
     "`cpu_template`, `track_dirty_pages`, `huge_pages` at line 1 column 6."),
    ("PUT", "machine-config", '{"vcpu_count":300,"mem_size_mib":1}',
     "invalid value: integer `300`, expected u8 at line 1 column 17."),
    ("PUT", "machine-config", '{"vcpu_count":null,"mem_size_mib":1}',
     "invalid type: null, expected u8 at line 1 column 18."),
    ("PUT", "machine-config", "{", "EOF while parsing an object at line 1 column 1."),
    ("PUT", "actions", '{"action_type":"Foo"}', "unknown variant `Foo`, expected one of `InstanceStart`, "
     "`FlushMetrics`, `SendCtrlAltDel` at line 1 column 20."),
    ("PATCH", "vm", '{"state":"Off"}', "unknown variant `Off`, expected `Paused` or `Resumed` at line 1 column 14."),
    ("PUT", "snapshot/load", {"snapshot_path": "a"}, "missing field: either `mem_backend` or `mem_file_path` is required."),
    ("PUT", "snapshot/load", {"snapshot_path": "a", "mem_file_path": "b",
                              "mem_backend": {"backend_path": "c", "backend_type": "File"}},
     "too many fields: either `mem_backend` or `mem_file_path` exclusively is required."),
])
def test_bodies_of_another_form_are_refused(vm, method, path, body, text):
    refused(vm.ask(method, path, body), JSON + text)


def test_requests_are_logged(new_vm):
    vm = new_vm("--level", "Debug", "--show-level", "--show-log-origin")
    ok(vm.put("machine-config", '{"vcpu_count":1,"mem_size_mib":64}'))
    refused(vm.put("machine-config", '{"vcpu_count":0,"mem_size_mib":64}'),
            "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
            "number if SMT is enabled.")
    ok(vm.get("/"))
    vm.put("mmds", '{"secret":1}')
    log = vm.log()
    assert ('The API server received a Put request on "/machine-config" with body '
            '"{\\"vcpu_count\\":1,\\"mem_size_mib\\":64}".') in log
    assert "The request was executed successfully. Status code: 204 No Content." in log
    assert "Received Error. Status code: 400 Bad Request. Message: Machine config error: The number" in log
    assert 'The API server received a Get request on "/".' in log
    assert 'The API server received a Put request on "/mmds".' in log
    assert "secret" not in log
    assert "Total previous API call duration: " in log
    assert ":DEBUG:" in log and "[test:fc_api:INFO:src/api/api.c:" in log
