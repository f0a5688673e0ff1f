"""Clients that are killed with an update on the way, stay away for long, or come late: error feedback and the chain of models bear it."""

import hashlib
import math
import os
import struct
import tempfile
import unittest

from federation import DATA, Federation, read_lines, run_fleet, settings, wait_for
from gate import Gate

FEEDBACK = "ef,top_k:fraction=0.1,int8"


def flags(clients, **more):
    changes = dict(model__architecture="logistic", data__path=DATA, partition__kind="iid", partition__clients=clients, training__local_steps=5,
                   training__batch_size=10, federation__quorum=0.3, federation__deadline="300s", compression__uplink=FEEDBACK, seed=7)
    changes.update(more)
    return settings(**changes)


class State:
    """A client's state directory, seen from outside."""

    def __init__(self, folder, partition):
        self.folder, self.partition = folder, partition
        self.kept_path = folder / f"residual-{partition}"
        self.staged_path = folder / f"residual-{partition}.staged"

    @staticmethod
    def _read(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        assert data[:8] == b"FWRESID1"
        at = 8
        for _ in range(2):  # attempt, run
            at += 4 + struct.unpack_from("<I", data, at)[0]
        at += 32  # layout
        return struct.unpack_from("<q", data, at)[0], data[at + 8:-4]

    def model(self):
        """The container of the one model held."""
        path, = self.folder.glob("model-*.fwt")
        return path.read_bytes()

    def kept(self):
        """(round, values) of the residual that counts, or None."""
        return self._read(self.kept_path)

    def staged(self):
        """The same of the residual whose update's verdict is not known."""
        return self._read(self.staged_path)

    def kept_round(self):
        return (self.kept() or (0,))[0]

    def staged_round(self):
        return (self.staged() or (0,))[0]


class Run(Federation):
    """A federation whose clients keep state and may sit behind gates."""

    def __init__(self, folder, flags, clients):
        super().__init__(folder, flags, clients)
        self.count = clients

    def state(self, partition):
        return State(self.folder / f"state-{partition}", partition)

    def join(self, partition, address=None):
        """Starts the client of a partition and waits until the coordinator knows it."""
        log = self.folder / f"client-{partition}-of-{self.count}.log"
        says = lambda: log.read_text().count("is member") if log.exists() else 0
        before = says()
        client = self.start_client(f"{partition}/{self.count}", settings(client__state_directory=self.state(partition).folder), address)
        wait_for(lambda: says() > before or client.child.poll() is not None, f"client {partition} to check in")
        assert client.child.poll() is None, client.tail()
        return client

    def leave(self, client, gate):
        """kill -9."""
        client.kill()
        self.clients.remove(client)
        gate.cut()

    def committed(self):
        return sum(line["outcome"] == "committed" for line in read_lines(self.out / "rounds.jsonl"))

    def accepted(self, partition):
        return [line["round"] for line in read_lines(self.out / "clients.jsonl") if line["partition"] == partition and line["outcome"] == "accepted"]

    def digests(self):
        return [line["model_digest"] for line in self.rounds()]


class KilledBetweenEncodeAndVerdictTest(unittest.TestCase):
    """Two clients, five rounds. The victim is killed in round 2, which stays open until it is back because the other's update is held."""

    ROUNDS = 5
    FLAGS = flags(2, federation__rounds=ROUNDS, federation__clients_per_round=2, federation__wait_for_clients=2, federation__evaluation="none",
                  compression__downlink="chain:multiple=0.3")

    def play(self, folder, what):
        """`what` becomes of the victim: "nothing"; "away" in round 2, with no update made; killed "before" its update of round 2 arrives or "after" it is
        accepted, unheard; or killed before and its residual lost with it ("lost"). Returns digests of all rounds and the victim's last residual."""
        with Run(folder, self.FLAGS, 2) as run:
            run.start_server()
            victim, other = run.state(0), run.state(1)
            held_rounds = {1, 2}  # of the other's updates
            in_round_2 = lambda: victim.staged_round() == 2
            gate = Gate(run.address, hold_up=lambda: what in ("before", "lost") and in_round_2(), hold_down=lambda: what == "after" and in_round_2())
            with gate, Gate(run.address, hold_up=lambda: other.staged_round() in held_rounds) as other_gate:
                client = run.join(0, gate.address)
                run.join(1, other_gate.address)
                wait_for(lambda: victim.kept_round() == 1 and not victim.staged(), "the victim's first update to count")
                first = victim.kept()
                self.assertTrue(any(first[1]), "there is something to lose")
                if what == "away":
                    run.leave(client, gate)
                held_rounds.remove(1)
                if what in ("before", "lost"):
                    wait_for(lambda: in_round_2() and gate.holding.is_set(), "the victim to encode its second update")
                    run.leave(client, gate)
                    self.assertEqual(run.accepted(0), [1])
                    self.assertEqual(victim.kept(), first)
                if what == "after":
                    wait_for(lambda: run.accepted(0) == [1, 2], "the victim's second update to be accepted")
                    run.leave(client, gate)
                    second = victim.staged()
                    self.assertEqual((second[0], victim.kept()), (2, first), "the victim has not heard")
                if what == "lost":
                    victim.kept_path.unlink()
                    victim.staged_path.unlink()
                wait_for(lambda: other.staged_round() == 2, "the other's second update")
                self.assertEqual(run.committed(), 1, "round 2 is open")
                if what != "nothing":
                    run.join(0)
                    wait_for(lambda: not victim.staged(), "the victim to ask what became of its update")
                    self.assertEqual(victim.kept(), second if what == "after" else None if what == "lost" else first)
                held_rounds.clear()
                run.finish()
            self.assertEqual([line["outcome"] for line in run.rounds()], ["committed"] * self.ROUNDS)
            self.assertEqual(run.accepted(0), [1, 2, 3, 4, 5] if what in ("nothing", "after") else [1, 3, 4, 5])
            self.assertEqual(run.accepted(1), [1, 2, 3, 4, 5])
            self.assertEqual(victim.kept_round(), self.ROUNDS)
            return run.digests(), victim.kept()

    def test_an_update_that_counted_unheard_leaves_its_residual_once(self):
        with tempfile.TemporaryDirectory() as folder:
            undisturbed = self.play(f"{folder}/undisturbed", "nothing")
            self.assertEqual(undisturbed[0], [line["model_digest"] for line in run_fleet(f"{folder}/fleet", self.FLAGS)])
            self.assertEqual(self.play(f"{folder}/killed", "after"), undisturbed)

    def test_an_update_that_never_arrived_leaves_no_residual(self):
        with tempfile.TemporaryDirectory() as folder:
            away = self.play(f"{folder}/away", "away")
            self.assertEqual(self.play(f"{folder}/killed", "before"), away)
            # Were a residual lost, it would show.
            lost = self.play(f"{folder}/lost", "lost")
            self.assertEqual(lost[0][:2], away[0][:2])
            for mine, theirs in zip(lost[0][2:], away[0][2:]):
                self.assertNotEqual(mine, theirs)


def model_digest(data):
    """Of a container of codec `chain` without tensors in the cosine domain (docs/container.md, docs/compression.md)."""
    assert data[:6] == b"\x89FWT\x02\x01"
    at = 6
    while data[at] >= 0x80:
        at += 1
    at += 33  # the length's last byte, the layout's digest
    codec_bytes = struct.unpack_from("<H", data, at)[0]
    at += 2 + codec_bytes
    assert data[at - codec_bytes:at] == b"chain"
    count = struct.unpack_from("<I", data, at)[0]
    at += 4
    tensors = []
    for _ in range(count):
        name_bytes = struct.unpack_from("<I", data, at)[0]
        name, (dtype, kind, rank) = data[at:at + 4 + name_bytes], data[at + 4 + name_bytes:at + 7 + name_bytes]
        at += 7 + name_bytes
        assert kind == 1, "logistic has parameters only"
        shape = data[at:at + 8 * rank]
        at += 8 * rank
        tensors.append((name + bytes([dtype, rank]) + shape, 4 * math.prod(struct.unpack(f"<{rank}Q", shape))))
    payload = data[at:-4]
    assert payload[:1 + count] == b"\1" + bytes(count), "a version past the first, every tensor as it is"
    value = 1 + count
    sha = hashlib.sha256()
    for head, size in tensors:
        sha.update(head + payload[value:value + size])
        value += size
    assert len(payload) == value + (value - 1 - count), "as much again says how far each has moved"
    return sha.hexdigest()


class AwayAndLateTest(unittest.TestCase):
    """Three clients, 60 rounds: one always there, one away from round 2 until 51 rounds are committed, one that comes only then. Both take part from
    round 53 on: round 52 is open already, held by the first one's update."""

    ROUNDS, BACK, DENSE = 60, 53, 4 * 7850

    def play(self, folder, length, forget=False):
        """`length` of the chain, in versions. `forget`: the one that was away comes back without its residual. Returns the final accuracy and the digests of
        all rounds."""
        more = dict(federation__rounds=self.ROUNDS, federation__clients_per_round=3, federation__wait_for_clients=2, federation__evaluate_every=self.ROUNDS,
                    compression__downlink=f"chain:multiple=0.3:transform=none:length={length}")
        with Run(folder, flags(3, **more), 3) as run:
            run.start_server()
            steady, away, late = 0, 1, 2
            states = [run.state(partition) for partition in range(3)]
            back = []
            hold = lambda: (states[steady].staged_round() == 1 and states[away].folder not in back) or (run.committed() >= 51 and late not in back)
            with Gate(run.address, hold_up=hold) as gate, Gate(run.address) as away_gate:
                run.join(steady, gate.address)
                client = run.join(away, away_gate.address)
                wait_for(lambda: states[away].kept_round() == 1 and not states[away].staged(), "the first update to count")
                run.leave(client, away_gate)
                back.append(states[away].folder)
                wait_for(lambda: run.committed() >= 51, "51 rounds")
                self.assertEqual(run.accepted(away), [1])
                self.assertEqual(states[away].kept_round(), 1)
                if forget:
                    states[away].kept_path.unlink()
                run.join(away)
                run.join(late)
                self.assertEqual(run.committed(), 51, "nothing went on without them")
                back.append(late)
                run.finish()
            self.assertEqual([line["outcome"] for line in run.rounds()], ["committed"] * self.ROUNDS)
            rest = list(range(self.BACK, self.ROUNDS + 1))
            self.assertEqual([run.accepted(partition) for partition in range(3)], [list(range(1, self.ROUNDS + 1)), [1] + rest, rest])
            for partition in (away, late):  # one increment, from the version held or from the one that everyone can make
                first = next(line for line in run.attempts() if line["partition"] == partition and line["round"] == self.BACK)
                self.assertGreater(first["downlink_payload_bytes"], 0)
                self.assertLess(first["downlink_payload_bytes"], self.DENSE / 4)
            # All three hold the version that the last round started from, and its digest is the record's.
            held = {state.model() for state in states}
            self.assertEqual(len(held), 1)
            self.assertEqual(model_digest(held.pop()), run.digests()[-2])
            return run.rounds()[-1]["eval_accuracy"], run.digests()

    def test_the_version_held_is_still_in_the_chain_and_the_stale_residual_does_no_harm(self):
        with tempfile.TemporaryDirectory() as folder:
            stale = self.play(f"{folder}/stale", 64)
            fresh = self.play(f"{folder}/fresh", 64, forget=True)
            print(f"accuracy {stale[0]:.4f} with the residual of round 1, {fresh[0]:.4f} without")
            last_alone = self.BACK - 1
            self.assertEqual(stale[1][:last_alone], fresh[1][:last_alone])
            self.assertNotEqual(stale[1][last_alone], fresh[1][last_alone], "the residual was used")
            self.assertGreater(stale[0], fresh[0] - 0.01)
            self.assertGreater(stale[0], 0.7)

    def test_the_version_held_has_left_the_chain(self):
        with tempfile.TemporaryDirectory() as folder:
            self.play(folder, 8)


if __name__ == "__main__":
    unittest.main()
