"""The metadata service, from the host and from the guest."""

import json

import pytest
import taps
from microvm import MicroVm, ok, refused, refused_with

DATA = {
    "latest": {
        "meta-data": {"ami-id": "ami-1", "list": ["a", "b"], "obj": {"k": "v"}, "empty": ""},
        "n": 512,
        "large": "x" * 20000,
    }
}
ADDRESS = "169.254.169.254"
NOT_INITIALIZED = "MMDS error: The MMDS data store is not initialized."
TOO_LARGE = "MMDS limit exceeded error: The MMDS patch request doesn't fit."


@pytest.fixture(autouse=True, scope="module")
def namespace():
    with taps.namespace():
        yield


def start(vm, version, address=None, **config):
    tap = taps.tap("tap" + version.lower(), "172.16.0.1/24")
    vm.configure(root=False)
    ok(vm.put("/network-interfaces/eth0", taps.net("eth0", tap)))
    if address:
        config["ipv4_address"] = address
    ok(vm.put("/mmds/config", {"network_interfaces": ["eth0"], "version": version, **config}))
    ok(vm.put("/mmds", DATA))
    vm.start()
    vm.ready()
    vm.sh(f"ip addr add 172.16.0.2/24 dev eth0; ip link set eth0 up; ip route add {address or ADDRESS} dev eth0")
    return vm


@pytest.fixture(scope="module")
def v1(tmp_path_factory):
    vm = MicroVm(tmp_path_factory.mktemp("v1"))
    try:
        yield start(vm, "V1")
    finally:
        vm.kill()


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    vm = MicroVm(tmp_path_factory.mktemp("v2"))
    try:
        yield start(vm, "V2", address="169.254.200.1", imds_compat=True)
    finally:
        vm.kill()


def request(vm, text, address=ADDRESS):
    """One request from the guest: status, header, body."""
    escaped = text.replace("\r", "\\r").replace("\n", "\\n")
    answer = vm.sh(f"printf '{escaped}' | guest_tool http {address} | tr -d '\\r'; echo")
    head, _, body = answer.partition("\n\n")
    return int(head.split()[1]), head, body.rstrip("\n")


def get(vm, path, accept=None, address=ADDRESS, **headers):
    lines = [f"GET {path} HTTP/1.1", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    if accept:
        lines.append(f"Accept: {accept}")
    return request(vm, "\r\n".join(lines) + "\r\n\r\n", address)


# --- the host's side ---


def test_the_store_of_the_host(new_vm):
    vm = new_vm("--mmds-size-limit", "32")
    assert vm.get("/mmds").json() == {}
    refused(vm.patch("/mmds", {"a": 1}), NOT_INITIALIZED)
    ok(vm.put("/mmds", {"b": [1, 2.5, None], "a": {"x": "y"}}))
    assert vm.get("/mmds").text == '{"a":{"x":"y"},"b":[1,2.5,null]}'


def test_what_is_too_large_is_refused_and_changes_nothing(new_vm):
    vm = new_vm("--mmds-size-limit", "20")
    ok(vm.put("/mmds", {"key": "value"}))
    refused(vm.put("/mmds", {"key": "a longer value"}), TOO_LARGE, 413)
    refused(vm.patch("/mmds", {"more": 1}), TOO_LARGE, 413)
    assert vm.get("/mmds").text == '{"key":"value"}'
    ok(vm.patch("/mmds", {"key": None, "k": "value"}))
    assert vm.get("/mmds").text == '{"k":"value"}'


def test_the_configuration_is_checked(vm):
    answer = vm.put("/mmds/config", {"network_interfaces": []})
    refused_with(answer, "MMMDS config error: The list of network interface IDs that allow")
    assert answer.headers["Deprecation"] == "true"  # version 1, which is the default
    missing = "does not correspond to any existing network interface."
    answer = vm.put("/mmds/config", {"network_interfaces": ["eth0"], "version": "V2"})
    refused_with(answer, missing)
    assert "Deprecation" not in answer.headers
    taps.tap("tap9")
    ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tap9")))
    for address in ("169.254.0.1", "169.254.255.1", "10.0.0.1"):
        refused(
            vm.put("/mmds/config", {"network_interfaces": ["eth0"], "version": "V2", "ipv4_address": address}),
            "MMMDS config error: The MMDS IPv4 address is not link local.",
        )
    refused_with(vm.put("/mmds/config", {"network_interfaces": ["eth0"], "version": "foo"}), "unknown variant `foo`")
    config = {"network_interfaces": ["eth0"], "version": "V2", "ipv4_address": "169.254.1.0", "imds_compat": True}
    ok(vm.put("/mmds/config", config))
    assert vm.get("/vm/config").json()["mmds-config"] == config


def test_metadata_comes_from_a_file(new_vm, folder):
    path = folder / "metadata.json"
    path.write_text(json.dumps(DATA))
    vm = new_vm("--metadata", str(path))
    assert vm.get("/mmds").json() == DATA
    assert vm.get("/").json()["state"] == "Not started"
    vm.has_log("Successfully added metadata to mmds from file")


def test_a_file_that_is_too_large_ends_the_process(folder):
    path = folder / "metadata.json"
    path.write_text(json.dumps(DATA))
    (folder / "vm").mkdir()
    flags = ["--api-sock", str(folder / "socket"), "--metadata", str(path), "--mmds-size-limit", "100"]
    vm = MicroVm(folder / "vm", *flags)
    assert vm.wait() == 1
    vm.has_log("Populating MMDS from file failed: The MMDS patch request doesn't fit.")
    vm.kill()


def test_without_an_interface_a_running_machine_has_no_store(vm):
    vm.boot(root=False)
    for answer in (vm.get("/mmds"), vm.put("/mmds", {}), vm.patch("/mmds", {})):
        refused(answer, NOT_INITIALIZED)


# --- the guest's side ---


@pytest.mark.parametrize("path, accept, status, body", [
    ("/latest/meta-data/", None, 200, "ami-id\nempty\nlist\nobj/"),
    ("/latest/meta-data/ami-id/", None, 200, "ami-1"),
    ("//latest/meta-data///ami-id", "text/plain", 200, "ami-1"),
    ("/latest/meta-data/ami-id", "application/json", 200, '"ami-1"'),
    ("/latest/meta-data/list/0", None, 200, "a"),
    ("/latest/n", None, 501, "Cannot retrieve value. The value has an unsupported type."),
    ("/latest/n", "application/json", 200, "512"),
    ("/", None, 200, "latest/"),
    ("/no/such", None, 404, "Resource not found: /no/such."),
])
def test_values_and_their_forms(v1, path, accept, status, body):
    got, head, text = get(v1, path, accept)
    assert (got, text) == (status, body)
    is_json = accept == "application/json" and status == 200
    assert f"Content-Type: {'application/json' if is_json else 'text/plain'}\n" in head + "\n"


def test_an_answer_beyond_a_segment_is_whole(v1):
    assert get(v1, "/latest/large")[2] == "x" * 20000
    # and busybox's own client agrees
    assert v1.sh(f"wget -q -O - http://{ADDRESS}/latest/large | wc -c").strip() == "20000"


def test_the_store_changes_under_the_guest(v1):
    ok(v1.patch("/mmds", {"latest": {"new": "one"}}))
    assert get(v1, "/latest/new")[2] == "one"
    ok(v1.patch("/mmds", {"latest": {"new": None}}))
    assert get(v1, "/latest/new")[0] == 404


def test_other_methods_are_told_which_there_are(v1):
    status, head, body = request(v1, "DELETE / HTTP/1.0\r\n\r\n")
    assert (status, body) == (405, "Not allowed HTTP method.")
    assert head.startswith("HTTP/1.0 405 ") and "\nAllow: GET, PUT\n" in head


def test_a_body_that_does_not_come_is_answered_at_once(v1):
    status, _, body = request(v1, "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 200\r\n\r\nabc")
    assert status == 400 and "Invalid request" in body


def test_thirty_connections_and_no_more(v1):
    assert v1.sh(f"guest_tool http-hold {ADDRESS} 32").strip() == "30"
    assert get(v1, "/latest/n", "application/json")[2] == "512"  # they ended with their process


def test_other_traffic_does_not_notice(v1):
    assert "1 packets received" in v1.sh("ping -c 1 -W 10 172.16.0.1")
    assert v1.sh(f"ping -c 1 -W 1 {ADDRESS} || true").find("1 packets received") < 0


def test_tokens(v2):
    address = "169.254.200.1"
    ttl = "PUT /latest/api/token HTTP/1.1\r\n{}\r\n\r\n"
    status, _, body = get(v2, "/latest/meta-data/ami-id", address=address)
    assert (status, body[:23]) == (401, "No MMDS token provided.")
    assert get(v2, "/", address=address, X_metadata_token="abc")[2] == "MMDS token not valid."
    status, head, token = request(v2, ttl.format("X-metadata-token-ttl-seconds: 60"), address)
    assert status == 200 and len(token) == 48
    assert "\nX-metadata-token-ttl-seconds: 60\n" in head
    for name in ("X_metadata_token", "x_aws_ec2_metadata_token"):
        assert get(v2, "/latest/meta-data/ami-id", address=address, **{name: token})[2] == "ami-1"
    # text for everybody, as imds_compat has it
    status, head, body = get(v2, "/latest/meta-data/ami-id", "application/json", address, X_metadata_token=token)
    assert body == "ami-1" and "Content-Type: application/json" in head
    assert request(v2, ttl.format("X-metadata-token-ttl-seconds: 0"), address)[0] == 400
    assert request(v2, ttl.format("X-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: a"), address)[2] == (
        "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For"
    )
    token = request(v2, ttl.format("X-aws-ec2-metadata-token-ttl-seconds: 1"), address)[2]
    v2.sh("sleep 1.2")
    assert get(v2, "/", address=address, X_metadata_token=token)[0] == 401
