"""Drives that another process serves: qemu-storage-daemon, and one in Python that changes its size."""

import json
import shutil
import subprocess
import time

import pytest

import guest
from microvm import PATIENCE, ok, refused
from vhost_backend import Backend

MIB = 1024 * 1024
CREATE = "Drive config error: Unable to create the virtio block device: "


@pytest.fixture
def serve(folder):
    """serve(path, name): a socket behind which the file is, and the process."""
    if not shutil.which("qemu-storage-daemon"):
        pytest.skip("no qemu-storage-daemon")
    started = []

    def begin(path, name="vhost", writable=True):
        socket = folder / (name + ".sock")
        started.append(subprocess.Popen([
            "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=file,filename={path}",
            "--blockdev", "driver=raw,node-name=disk,file=file",
            "--export", "type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,"
            f"addr.path={socket},writable={'on' if writable else 'off'}",
        ], stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 30 * PATIENCE
        while not socket.exists():
            assert time.monotonic() < deadline and started[-1].poll() is None
            time.sleep(0.01)
        return socket, started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def add(vm, socket, drive_id="v", **more):
    return ok(vm.put("/drives/" + drive_id, {
        "drive_id": drive_id, "socket": str(socket), "is_root_device": False, **more}))


def test_a_guest_lives_on_it_and_no_snapshot_is_made(vm, folder, serve):
    socket, _ = serve(guest.rootfs(folder / "root.ext4"))
    vm.configure(root=False)
    add(vm, socket, "rootfs", is_root_device=True, cache_type="Writeback")
    (folder / "f").write_bytes(b"x" * MIB)
    ok(vm.put("/drives/plain", {"drive_id": "plain", "path_on_host": str(folder / "f"), "is_root_device": False}))
    vm.start()
    vm.ready()
    assert "root=/dev/vda rw " in vm.sh("cat /proc/cmdline")
    assert vm.sh("cat /sys/block/vda/cache_type").strip() == "write back"
    assert vm.sh("cat /sys/block/vdb/size").strip() == "2048"
    vm.sh("dd if=/dev/urandom of=/root/data bs=64k count=32 2>/dev/null; md5sum /root/data >/root/sum; sync; "
          "echo 3 >/proc/sys/vm/drop_caches; md5sum -c /root/sum")
    shown = {d["drive_id"]: d for d in vm.get("/vm/config").json()["drives"]}
    assert shown["rootfs"]["socket"] == str(socket) and shown["rootfs"]["path_on_host"] is None
    ok(vm.patch("/vm", {"state": "Paused"}))
    answer = vm.put("/snapshot/create", {"snapshot_path": str(folder / "s"), "mem_file_path": str(folder / "m")})
    assert answer.status_code == 400
    assert "Devices without snapshot support are present: vhost-user-block(id: rootfs)" in answer.json()["fault_message"]
    ok(vm.patch("/vm", {"state": "Resumed"}))
    vm.sh("md5sum -c /root/sum")


def test_a_patch_has_the_configuration_read_again(vm, folder, serve):
    (folder / "f").write_bytes(b"x" * MIB)
    socket, _ = serve(folder / "f")
    metrics = folder / "metrics"
    ok(vm.put("/metrics", {"metrics_path": str(metrics)}))
    add(vm, socket)
    vm.boot()
    assert vm.sh("cat /sys/block/vdb/size").strip() == "2048"
    for more in ({"path_on_host": "x"}, {"rate_limiter": {}}):
        refused(vm.patch("/drives/v", {"drive_id": "v", **more}),
                "Drive config error: Unable to patch the block device: Block: Running method expected different "
                "backend. Please verify the request arguments.")
    ok(vm.patch("/drives/v", {"drive_id": "v"}))
    ok(vm.put("/actions", {"action_type": "FlushMetrics"}))
    counts = json.loads(metrics.read_text().splitlines()[-1])["vhost_user_block_v"]
    assert counts["config_change_time_us"] > 0 and counts["init_time_us"] > 0 and counts["activate_time_us"] > 0
    assert vm.sh("dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "xxxx"


def test_a_size_that_changed_is_seen_after_a_patch(vm, folder):
    backend = Backend(folder / "py.sock", b"abcd" * (MIB // 4))
    add(vm, folder / "py.sock")
    vm.boot()
    assert vm.sh("cat /sys/block/vdb/size").strip() == "2048"
    assert vm.sh("dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "abcd"
    vm.sh("echo hello | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null")
    assert backend.data.startswith(b"hello\n")
    backend.data.extend(b"more" * (MIB // 4))
    assert vm.sh("cat /sys/block/vdb/size").strip() == "2048"
    ok(vm.patch("/drives/v", {"drive_id": "v"}))
    vm.sh("n=0; while [ $(cat /sys/block/vdb/size) != 4096 ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done")
    assert vm.sh("dd if=/dev/vdb bs=4 count=1 skip=262144 2>/dev/null") == "more"
    # what the front end said, in the order of the protocol: owner, features; at activation memory and ring
    assert backend.seen_requests[:5] == [3, 1, 15, 16, 24]
    assert backend.seen_requests[5:13] == [2, 5, 8, 9, 10, 13, 12, 18]


def test_the_driver_can_be_unbound_and_bound_again(vm, folder, serve):
    (folder / "f").write_bytes(b"abcd" * (MIB // 4))
    socket, _ = serve(folder / "f", writable=False)
    add(vm, socket)
    vm.boot()
    assert vm.sh("cat /sys/block/vdb/ro").strip() == "1"
    name = vm.sh("basename $(readlink /sys/block/vdb/device)").strip()
    for _ in range(3):
        vm.sh(f"echo {name} >/sys/bus/virtio/drivers/virtio_blk/unbind")
        vm.sh(f"echo {name} >/sys/bus/virtio/drivers/virtio_blk/bind")
        assert vm.sh("dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "abcd"


def test_a_dead_server_leaves_everything_else_alive(vm, folder, serve):
    (folder / "f").write_bytes(b"x" * MIB)
    socket, process = serve(folder / "f")
    add(vm, socket)
    vm.boot()
    process.kill()
    process.wait()
    vm.sh("dd if=/dev/vdb of=/dev/null bs=4k count=1 iflag=direct </dev/null >/dev/null 2>&1 &")
    assert vm.get("/").json()["state"] == "Running"
    assert vm.sh("echo alive") == "alive\n"
    assert vm.patch("/drives/v", {"drive_id": "v"}).status_code == 400


def test_sockets_that_do_not_serve_are_refused(vm, folder, serve):
    error = CREATE + "Vhost user backend error: Failed to connect to UDS Unix stream: "
    body = {"drive_id": "v", "socket": str(folder / "missing"), "is_root_device": False}
    refused(vm.put("/drives/v", body), error + "No such file or directory (os error 2)")
    (folder / "file").touch()
    refused(vm.put("/drives/v", {**body, "socket": str(folder / "file")}), error + "Connection refused (os error 111)")
    for name, value in (("is_read_only", True), ("io_engine", "Sync"), ("rate_limiter", {}), ("path_on_host", "x")):
        refused(vm.put("/drives/v", {**body, name: value}), CREATE + "Invalid block config.")
