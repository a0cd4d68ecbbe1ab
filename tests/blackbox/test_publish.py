"""Ports of the host that lead into a VM (ec1 run -p); the streams themselves are tested in guest/init."""

import re
import socket
import subprocess

from conftest import ENGINE

SERVER = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 4321, Listen => 5) or die;
print "up\\n"; $| = 1; print "\\n";
while (my $c = $s->accept) { local $/; my $all = <$c>; print $c uc $all; close $c }
"""


def test_a_port_leads_to_a_server_in_the_vm(ec1):
    run = ec1.popen(
        "run", "--engine", ENGINE, "-p", "0:4321", "-p", "0:4322", "--", "perl", "-e", SERVER,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        lines = [run.stderr.readline().decode() for _ in range(2)]
        ports = [int(re.search(rf"port (\d+) of 127.0.0.1 leads to port {n} of the VM", line).group(1))
                 for n, line in zip((4321, 4322), lines)]
        assert run.stdout.readline() == b"up\n"
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", ports[0]), timeout=120) as client:
                client.sendall(b"hello" * 100000)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert answer == b"HELLO" * 100000
        with socket.create_connection(("127.0.0.1", ports[1]), timeout=120) as client:
            try:
                assert client.recv(1) == b"", "nobody serves this one"
            except ConnectionResetError:
                pass
    finally:
        run.terminate()
        assert run.wait(120) == 143


def test_a_port_that_is_taken_or_wrong_is_named_before_anything_starts(ec1):
    before = ec1.leftovers()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ec1.run("true", flags=["-p", f"{port}:80"], check=125)
        assert f"port {port} of 127.0.0.1: Address already in use" in done.stderr.decode()
    done = ec1.run("true", flags=["-p", "80"], check=125)
    assert b"publish '80': must be [ADDRESS:]HOST:GUEST" in done.stderr
    assert ec1.leftovers() == before
