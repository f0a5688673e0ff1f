"""What a run says of its wire bytes and headers against the counters of a network interface that carries nothing else.

In a network namespace of its own, with the clients in a second one, at the other end of a virtual cable. Segmentation is left to no device there: a packet that the
counters count is one that TCP has sent, with one header. (With segmentation offload they would count bundles, with one header each, on this virtual interface; a real
one counts what it sends.) Nothing is lost on the cable, so no segment comes twice; of one that did, the sender would count both, the receiver one.
"""

import ctypes
import fcntl
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest

from federation import DATA, Federation, settings

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
ETHERNET, IP_AND_TCP = 14, 20 + 20 + 12  # of each packet; TCP with timestamps
# Runs what follows as the owner of a network namespace: by a namespace of users where that is allowed, else as root.
ENTER = ["unshare", "--user", "--map-root-user", "--net"], ["unshare", "--net"]
CLIENTS = 2
FLAGS = settings(model__architecture="mlp_2nn", data__path=DATA, partition__kind="iid", partition__clients=CLIENTS, federation__rounds=15, federation__evaluate_every=100,
                 federation__clients_per_round=CLIENTS, federation__wait_for_clients=CLIENTS, training__local_steps=2, compression__uplink="float32",
                 compression__downlink="float32", server__names=f'["{SERVER}"]', seed=1)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def leave_segmentation_to_tcp(interface):
    class Value(ctypes.Structure):
        _fields_ = [("command", ctypes.c_uint32), ("data", ctypes.c_uint32)]

    class Request(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char * 16), ("value", ctypes.POINTER(Value)), ("rest", ctypes.c_char * 16)]

    siocethtool, switches = 0x8946, (0x1F, 0x24, 0x2C)  # ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for switch in switches:
            request = Request(interface.encode(), ctypes.pointer(Value(switch, 0)))
            fcntl.ioctl(any_socket, siocethtool, request)


def counters(interface):
    """Bytes and packets received, bytes and packets sent."""
    for line in pathlib.Path("/proc/self/net/dev").read_text().splitlines():
        if line.strip().startswith(f"{interface}:"):
            fields = [int(word) for word in line.split(":")[1].split()]
            return fields[0], fields[1], fields[8], fields[9]
    raise AssertionError(f"no interface {interface}")


def prepare(interface, address):
    try:
        pathlib.Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
    except OSError:
        pass  # then it says a few words of its own
    leave_segmentation_to_tcp(interface)
    run("ip", "address", "add", f"{address}/24", "dev", interface)
    run("ip", "link", "set", interface, "up")


class Cable:
    """Between this network namespace, at "server", and one that lives as long as this does, at "client"."""

    def __enter__(self):
        self.other = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo in; exec sleep 600"], stdout=subprocess.PIPE)
        assert self.other.stdout.readline() == b"in\n"
        self.at_client = ["nsenter", f"--net=/proc/{self.other.pid}/ns/net"]
        run("ip", "link", "add", "server", "type", "veth", "peer", "name", "client", "netns", str(self.other.pid))
        prepare("server", SERVER)
        run(*self.at_client, sys.executable, __file__, "--prepare", "client", CLIENT)
        return self

    def __exit__(self, *_):
        self.other.kill()
        self.other.wait()
        self.other.stdout.close()


class WireBytesTest(unittest.TestCase):
    def test_they_are_those_of_the_interface(self):
        with tempfile.TemporaryDirectory() as folder, Cable() as cable, Federation(folder, FLAGS, CLIENTS) as federation:
            before = counters("server")
            federation.start_server(f"{SERVER}:0")
            for partition in federation.partitions:
                federation.start_client(partition, within=cable.at_client)
            federation.finish()
            counted = [now - then for now, then in zip(counters("server"), before)]

            rounds, attempts = federation.rounds(), federation.attempts()
            for direction, bytes_, packets in (("uplink", *counted[:2]), ("downlink", *counted[2:])):
                payload, wire, headers = (sum(line[f"{direction}_{kind}_bytes"] for line in rounds) for kind in ("payload", "wire", "header"))
                expected = bytes_ - packets * (ETHERNET + IP_AND_TCP)
                print(f"{direction}: {bytes_} bytes in {packets} packets are {expected} without headers; payload {payload}, the record's {wire}: {wire / expected - 1:+.4%};"
                      f" headers {packets * IP_AND_TCP}, the record's {headers}: {headers / (packets * IP_AND_TCP) - 1:+.4%}")
                self.assertGreater(payload, 20e6)
                self.assertGreater(wire, payload)
                self.assertLess(abs(wire - expected), 0.001 * expected)
                self.assertLess(abs(headers - packets * IP_AND_TCP), 0.01 * headers)
                # What the clients say, each of its own attempts from the ask to the report; not what they say before and between.
                clients = sum(line[f"{direction}_wire_bytes"] for line in attempts)
                print(f"{direction}: all attempts' {clients}: {clients / expected - 1:+.4%}")
                self.assertLessEqual(clients, expected)
                self.assertGreater(clients, 0.995 * expected)
                self.assertGreater(sum(line[f"{direction}_header_bytes"] for line in attempts), 0.98 * headers)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--prepare"]:
        prepare(*sys.argv[2:])
    elif "FEDWATT_IN_NAMESPACE" in os.environ:
        unittest.main()
    else:
        reasons = []
        for enter in ENTER:
            probe = subprocess.run([*enter, "ip", "link", "add", "probe", "type", "veth"], capture_output=True, text=True)
            if probe.returncode == 0:
                sys.exit(subprocess.run([*enter, sys.executable, *sys.argv], env=dict(os.environ, FEDWATT_IN_NAMESPACE="1")).returncode)
            reasons.append(f"{' '.join(enter)}: {probe.stderr.strip()}")
        print("skipped: no network namespace with a virtual cable can be made here:", "; ".join(reasons))
