"""Kernels from images: a real registry on this machine, image layouts and archives."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import warnings

import pytest

from conftest import BINARY, BOOT_TIMEOUT

KERNEL = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/default"))
TOOLS = ["docker-registry", "skopeo", "umoci"]
pytestmark = pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")


def sh(*argv, **kwargs):
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True, **kwargs).stdout


def unneeded(folder, names):
    """Most of the modules: an image of 10 MB is as good as one of 100."""
    if not folder.endswith("/drivers"):
        return [n for n in names if folder.endswith("/kernel") and n in ("sound", "crypto", "arch", "lib")]
    return [n for n in names if n not in ("virtio", "char", "block")]


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An image layout with the kernel as `k`, one for arm64 as `arm`, one without a kernel as `bare`."""
    path = tmp_path_factory.mktemp("image") / "layout"
    sh("umoci", "init", "--layout", path)
    for tag, machine in ("k", "amd64"), ("arm", "arm64"), ("bare", "amd64"):
        sh("umoci", "new", "--image", f"{path}:{tag}")
        sh("umoci", "config", "--image", f"{path}:{tag}", "--architecture", machine, "--os", "linux")
    # Not `umoci insert`: Debian 12's writes tar files without an end.
    for part in "boot", "usr/lib":
        bundle = path.parent / part.replace("/", "-")
        sh("umoci", "unpack", "--rootless", "--image", f"{path}:k", bundle)
        shutil.copytree(KERNEL / part, bundle / "rootfs" / part, ignore=unneeded)
        sh("umoci", "repack", "--image", f"{path}:k", bundle)
        shutil.rmtree(bundle)
    return path


class Registry:
    def __init__(self, folder, layout, user=None, tls=False):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.host = f"localhost:{self.port}"
        self.folder = folder
        http = {"addr": f"127.0.0.1:{self.port}"}
        config = {"version": 0.1, "log": {"level": "error"}, "http": http, "storage": {"filesystem": {"rootdirectory": str(folder / "data")}}}
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"]
        if tls:
            sh("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
               "subjectAltName=DNS:localhost", "-keyout", folder / "key", "-out", folder / "cert")
            http["tls"] = {"certificate": str(folder / "cert"), "key": str(folder / "key")}
        if user:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                import crypt  # Debian 12 has Python 3.11
            # All that docker-registry knows, and as cheap as it may be: it is asked dozens of times.
            secret = crypt.crypt(user[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
            (folder / "htpasswd").write_text(f"{user[0]}:{secret}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
            copy += ["--dest-creds", ":".join(user)]
        (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        self.process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.05)
        for tag in "k", "arm", "bare":
            sh(*copy, f"oci:{layout}:{tag}", f"docker://{self.host}/test/kernel:{tag}")

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def registry(tmp_path_factory, layout):
    r = Registry(tmp_path_factory.mktemp("registry"), layout)
    yield r
    r.end()


@pytest.fixture
def env(ec1, tmp_path):
    return dict(ec1.env, XDG_CACHE_HOME=str(tmp_path / "cache"), DOCKER_CONFIG=str(tmp_path / "docker"))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "docker").mkdir()


def pull(ec1, env, image):
    done = ec1("pull", image, env=env)
    return done.returncode, done.stdout.decode().strip(), done.stderr.decode()


def images(env):
    return pathlib.Path(env["XDG_CACHE_HOME"]) / "ec1" / "images"


def check_is_clean(env):
    """Nothing half-pulled is left."""
    assert list((images(env) / "trees").iterdir()) == []


def test_a_kernel_from_a_registry_boots(ec1, env, registry):
    image = f"{registry.host}/test/kernel:k"
    release = next((KERNEL / "lib/modules").iterdir()).name
    done = ec1.run("uname", "-r", flags=["-k", image], env=env)
    assert done.stdout.decode().strip() == release, done.stderr
    registry.process.send_signal(signal.SIGSTOP)  # pulled once: nobody is asked again
    try:
        done = ec1.run("uname", "-r", flags=["-k", image], env=env)
    finally:
        registry.process.send_signal(signal.SIGCONT)
    assert done.stdout.decode().strip() == release, done.stderr


def test_files_of_an_image_lie_over_the_root(ec1, env, layout):
    """vimto sees them beside the host's; its own failures end with 128."""
    command = "modprobe -n -v loop && ls -d /boot/vmlinuz-$(uname -r) /bin/sh && rm -r /boot /lib/modules"
    done = subprocess.run([BINARY, "vimto", "-kernel", f"oci:{layout}:k", "-sudo", "exec", "--", "sh", "-c", command],
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert "/loop.ko" in done.stdout and "\n/bin/sh\n/boot/vmlinuz-" in done.stdout
    done = subprocess.run([BINARY, "vimto", "-kernel", f"oci:{layout}:bare", "exec", "true"], env=env, capture_output=True, text=True)
    assert done.returncode == 128 and "it has no readable boot/vmlinux*" in done.stderr


def test_flush_cache_spares_what_is_in_use(env, layout, tmp_path):
    env = dict(env, XDG_RUNTIME_DIR=str(tmp_path))
    (tmp_path / ".vimto.toml").write_text(f'kernel = "oci:{layout}:other"')
    vimto = [BINARY, "vimto", "-kernel", ":k", "exec", "--", "sh", "-c", "echo up; read end"]
    process = subprocess.Popen(vimto, env=env, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n", process.communicate()[1]
    done = subprocess.run([BINARY, "vimto", "flush-cache"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "vimto: warning: 1 image is in use and stays\n")
    assert len(list((images(env) / "trees").iterdir())) == 1
    assert process.communicate("end\n", timeout=BOOT_TIMEOUT)[1] is not None and process.returncode == 0
    done = subprocess.run([BINARY, "vimto", "flush-cache"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((images(env) / "trees").iterdir()) == []


def test_layouts_and_archives(ec1, env, layout, tmp_path):
    status, tree, err = pull(ec1, env, f"oci:{layout}:k")
    assert status == 0, err
    assert list(pathlib.Path(tree, "boot").glob("vmlinuz-*"))
    archive = tmp_path / "k.tar"
    sh("skopeo", "copy", "--quiet", f"oci:{layout}:k", f"docker-archive:{archive}:k:latest")
    status, other, err = pull(ec1, env, f"docker-archive:{archive}")
    assert status == 0, err
    assert sorted(p.name for p in pathlib.Path(other, "boot").iterdir()) == sorted(p.name for p in pathlib.Path(tree, "boot").iterdir())


@pytest.mark.parametrize("name, part", [
    ("test/kernel:none", "not found (404)"),
    ("test/nobody:k", "not found (404)"),
    ("test/kernel:arm", "it is for linux/arm64: must be for linux/amd64"),
    ("test/kernel@sha256:" + 64 * "0", "404"),
])
def test_what_cannot_be_pulled_is_refused(ec1, env, registry, name, part):
    status, _, err = pull(ec1, env, f"{registry.host}/{name}")
    assert status == 125 and part in err, err
    check_is_clean(env)


def test_an_image_without_a_kernel_does_not_boot(ec1, env, registry):
    done = ec1.run("true", flags=["-k", f"{registry.host}/test/kernel:bare"], env=env)
    assert done.returncode == 125
    assert b"it has no readable boot/vmlinux* or boot/vmlinuz*" in done.stderr


def test_nobody_there(ec1, env):
    status, _, err = pull(ec1, env, "localhost:1/a/b")
    assert status == 125 and "localhost:1" in err and "onnect" in err, err
    check_is_clean(env)


def test_a_broken_cache_repairs_itself(ec1, env, registry):
    image = f"{registry.host}/test/kernel:k"
    _, tree, _ = pull(ec1, env, image)
    victim = next(pathlib.Path(tree, "boot").glob("vmlinuz-*"))
    whole = hashlib.sha256(victim.read_bytes()).digest()
    victim.write_bytes(b"x")
    status, again, err = pull(ec1, env, image)
    assert (status, again) == (0, tree), err
    assert hashlib.sha256(victim.read_bytes()).digest() == whole
    victim.unlink()
    assert pull(ec1, env, image)[0] == 0
    assert hashlib.sha256(victim.read_bytes()).digest() == whole


def test_what_came_before_is_gone_on_with(ec1, env, registry, layout):
    """Part of a layer is there already, right or rotten."""
    index = json.loads((layout / "index.json").read_text())
    (entry,) = [m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == "k"]

    def blob(digest):
        return (layout / "blobs" / "sha256" / digest.split(":")[1]).read_bytes()

    layers = [layer["digest"] for layer in json.loads(blob(entry["digest"]))["layers"]]
    parts = images(env) / "parts"
    parts.mkdir(parents=True)
    for digest, data in zip(layers, [blob(layers[0])[:100000], b"rotten" * 1000]):
        (parts / digest.split(":")[1]).write_bytes(data)
    status, tree, err = pull(ec1, env, f"{registry.host}/test/kernel:k")
    assert status == 0, err
    assert list(pathlib.Path(tree, "boot").glob("vmlinuz-*"))
    assert list(parts.iterdir()) == []


def test_many_pull_at_once(ec1, env, registry):
    image = f"{registry.host}/test/kernel:k"
    many = [subprocess.Popen([BINARY, "pull", image], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(5)]
    answers = {(p.communicate(timeout=300)[0], p.returncode) for p in many}
    assert len(answers) == 1 and answers.pop()[1] == 0
    assert len(list((images(env) / "trees").iterdir())) == 1


def test_what_came_with_another_digest_is_not_used(ec1, env, registry, layout):
    """Someone changed a layer where the registry keeps it; then the right one is back."""
    index = json.loads((layout / "index.json").read_text())
    (entry,) = [m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == "k"]
    digest = json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_text())["layers"][0]["digest"]
    victim = registry.folder / "data/docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"
    right = victim.read_bytes()
    victim.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    try:
        status, _, err = pull(ec1, env, f"{registry.host}/test/kernel:k")
    finally:
        victim.write_bytes(right)
    assert status == 125 and f"{digest}: what came has the digest sha256:" in err, err
    check_is_clean(env)
    assert pull(ec1, env, f"{registry.host}/test/kernel:k")[0] == 0


def test_passwords_and_tls(ec1, env, layout, tmp_path):
    folder = tmp_path / "secure"
    folder.mkdir()
    registry = Registry(folder, layout, user=("alice", "pass:word"), tls=True)
    try:
        image = f"{registry.host}/test/kernel:bare"
        status, _, err = pull(ec1, env, image)
        assert status == 125 and "certificate" in err, "nobody vouches for it"
        env = dict(env, SSL_CERT_FILE=str(folder / "cert"))
        status, _, err = pull(ec1, env, image)
        assert status == 125 and "wants a login (401)" in err, err
        config = tmp_path / "docker" / "config.json"
        for secret, want in (b"alice:wrong", 125), (b"alice:pass:word", 0):
            config.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(secret).decode()}}}))
            status, _, err = pull(ec1, env, image)
            assert status == want, err
    finally:
        registry.end()


def test_a_full_disk_leaves_nothing_behind(ec1, env, registry, tmp_path):
    small = tmp_path / "cache"
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", small], capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    try:
        status, _, err = pull(ec1, env, f"{registry.host}/test/kernel:k")
        assert status == 125 and "No space left on device" in err, err
        check_is_clean(env)
        subprocess.run(["mount", "-o", "remount,size=400m", small], check=True)
        status, tree, err = pull(ec1, env, f"{registry.host}/test/kernel:k")
        assert status == 0 and list(pathlib.Path(tree, "boot").glob("vmlinuz-*")), err
    finally:
        subprocess.run(["umount", small], check=True)
