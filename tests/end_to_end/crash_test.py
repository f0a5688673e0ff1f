"""kill -9, at both ends."""

import tempfile
import time
import unittest

from federation import BIN, DATA, Federation, Process, settings, wait_for


def flags(**more):
    changes = dict(model__architecture="mlp_2nn", data__path=DATA, partition__kind="iid", partition__clients=4, federation__rounds=6,
                   federation__clients_per_round=4, federation__wait_for_clients=4, training__local_steps=60, federation__quorum=0.5, seed=3)
    changes.update(more)
    return settings(**changes)


class CrashTest(unittest.TestCase):
    def test_a_killed_coordinator_goes_on_where_it_was(self):
        with tempfile.TemporaryDirectory() as folder, Federation(folder, flags(), 4) as federation:
            federation.start()
            record = federation.out / "rounds.jsonl"
            wait_for(lambda: record.exists() and len(record.read_text().splitlines()) >= 2, "two rounds")
            federation.server.kill()
            before = federation.rounds()
            address = federation.address
            time.sleep(1)
            self.assertTrue(all(client.child.poll() is None for client in federation.clients), "clients outlive the coordinator")
            federation.start_server(listen=address)
            federation.finish()
            rounds = federation.rounds()
            committed = [line["round"] for line in rounds if line["outcome"] == "committed"]
            self.assertEqual(committed, [1, 2, 3, 4, 5, 6], "each round is committed once")
            # A line is written only when its round is durable.
            self.assertEqual([line["model_digest"] for line in rounds[:len(before)]], [line["model_digest"] for line in before])
            self.assertEqual(len({line["run_id"] for line in rounds}), 1, "it is one run")
            self.assertGreater(rounds[-1]["eval_accuracy"], 0.6)

    def test_a_killed_client_costs_its_own_attempt_only(self):
        with tempfile.TemporaryDirectory() as folder, Federation(folder, flags(federation__rounds=3, training__local_steps=400), 4) as federation:
            federation.start()
            attempts = federation.out / "clients.jsonl"
            wait_for(lambda: attempts.exists() and len(attempts.read_text().splitlines()) >= 1, "a first update")
            federation.clients[2].kill()
            federation.clients.pop(2)
            federation.finish()
            rounds = federation.rounds()
            self.assertEqual([line["outcome"] for line in rounds], ["committed"] * 3)
            self.assertEqual(rounds[-1]["clients_completed"], 3)
            dropped = [line for line in federation.attempts() if line["outcome"] == "dropped"]
            for line in dropped:
                self.assertEqual(line["reason"], "disconnected")
            self.assertLessEqual(sum(line["wall_seconds"] for line in rounds), 60, "nobody waited for the dead one until the deadline")

    def test_a_client_killed_in_mid_upload_costs_its_own_attempt_only(self):
        with tempfile.TemporaryDirectory() as folder:
            more = dict(model__architecture="fedavg_cnn", federation__rounds=30, training__local_steps=1, federation__evaluation="none", compression__preset="float32")
            with Federation(folder, flags(**more), 4) as federation:
                federation.start()
                uploads = federation.out / "state" / "uploads"
                victim = None
                while victim is None:
                    self.assertIsNone(federation.server.child.poll(), "the run ended before an upload was seen under way")
                    for part in uploads.glob("*.part") if uploads.exists() else []:
                        try:
                            size = part.stat().st_size
                        except FileNotFoundError:
                            continue
                        partition = int(part.name.split("-p")[1].split("-")[0])
                        if 0 < size < 2 * 1663370:  # not half of it
                            federation.clients[partition].kill()
                            victim = part.name.split(".")[0]
                            break
                federation.clients.pop(partition)
                federation.finish()
                attempts = {line["attempt"]: line for line in federation.attempts()}
                self.assertEqual((attempts[victim]["outcome"], attempts[victim]["reason"]), ("dropped", "disconnected"))
                self.assertEqual([line["outcome"] for line in federation.rounds()], ["committed"] * 30)
                self.assertEqual(list(uploads.glob("*.part")), [], "what it had sent is gone")

    def test_a_client_started_again_takes_part_again(self):
        with tempfile.TemporaryDirectory() as folder, Federation(folder, flags(federation__rounds=30, training__local_steps=400), 4) as federation:
            federation.start()
            record = federation.out / "rounds.jsonl"
            wait_for(lambda: record.exists() and len(record.read_text().splitlines()) >= 1, "a first round")
            federation.clients[1].kill()
            federation.clients.pop(1)
            federation.start_client("1/4")
            federation.finish()
            self.assertEqual(federation.rounds()[-1]["clients_completed"], 4)

    def test_a_second_coordinator_on_one_folder_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, Federation(folder, flags(), 4) as federation:
            federation.start_server()
            second = Process([BIN / "fedwatt-server", "--listen", "127.0.0.1:0", "--out", federation.out] + federation.flags,
                             f"{folder}/second.log")
            self.assertNotEqual(second.wait(60), 0)
            self.assertIn("lock", second.tail())

    def test_sigterm_ends_the_run_in_order(self):
        with tempfile.TemporaryDirectory() as folder, Federation(folder, flags(federation__rounds=1000), 4) as federation:
            federation.start()
            record = federation.out / "rounds.jsonl"
            wait_for(lambda: record.exists() and len(record.read_text().splitlines()) >= 1, "a first round")
            federation.server.child.terminate()
            federation.finish(60)
            self.assertGreaterEqual(federation.summary()["rounds_committed"], 1)


if __name__ == "__main__":
    unittest.main()
