"""A federation whose model is pruned as it goes: the same bits simulated and networked, over a crash and for clients that come late, and a final model that is really smaller."""

import pathlib
import subprocess
import tempfile
import unittest

from federation import DATA, Federation, read_lines, run_fleet, settings, wait_for

PYTHON = "/usr/bin/python3"  # the one that Debian's python3-torch belongs to
HERE = pathlib.Path(__file__).parent
HAS_TORCH = subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode == 0
PRUNE = dict(prune__target=0.3, prune__begin=1, prune__end=5, prune__every=2, prune__channels="taylor", prune__regrow=0.3)


def flags(**more):
    changes = dict(model__architecture="mlp_2nn", data__path=DATA, partition__kind="iid", partition__clients=6, federation__rounds=8, federation__clients_per_round=4,
                   federation__wait_for_clients=5, federation__evaluate_every=1, training__batch_size=10, training__local_steps=40, seed=11)
    changes.update(PRUNE)
    changes.update(more)
    if "model__torchscript" in more:
        del changes["model__architecture"]
    return settings(**changes)


def digests(rounds):
    return [line["model_digest"] for line in rounds]


class PruningTest(unittest.TestCase):
    # Four of six members each round: others are away while the model is cut.
    def compare(self, flags, *more, clients=("0/6", "1-3/6", "4/6", "5/6")):
        with tempfile.TemporaryDirectory() as folder:
            rounds = run_fleet(f"{folder}/one", flags, workers=1)
            self.assertEqual(digests(rounds), digests(run_fleet(f"{folder}/two", flags, workers=2)), "one and two workers")
            with Federation(f"{folder}/net", flags, 6, list(clients)) as federation:
                federation.start()
                federation.finish()
                networked = federation.rounds()
                self.assertEqual(digests(rounds), digests(networked), "simulated and networked")
                for key in ("model_parameters", "eval_accuracy", "uplink_payload_bytes", *more):
                    self.assertEqual([line[key] for line in rounds], [line[key] for line in networked], key)
                self.assertEqual({line["outcome"] for line in federation.attempts()}, {"accepted"})
                return rounds, read_lines(pathlib.Path(folder) / "one" / "clients.jsonl"), self.score(federation)

    def score(self, federation):
        summary = federation.summary()
        if HAS_TORCH:
            done = subprocess.run([PYTHON, str(HERE / "score.py"), summary["model_path"]], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertAlmostEqual(float(done.stdout), summary["final_accuracy"], delta=1e-4)
        return pathlib.Path(summary["model_path"]).stat().st_size

    def test_every_round_costs_less_in_both_worlds(self):
        rounds, attempts, size = self.compare(flags(federation__wait_for_clients=6))
        parameters = [line["model_parameters"] for line in rounds]
        whole = 784 * 200 + 200 + 200 * 200 + 200 + 2000 + 10
        self.assertLessEqual(parameters[-1], 0.3 * whole)
        self.assertEqual(len(set(parameters[4:])), 1)
        self.assertGreater(parameters[1], parameters[0], "channels on trial before the second cut")
        trained = {line["round"]: line["fit"] for line in attempts}
        for line in rounds[:-1]:
            self.assertEqual(trained[line["round"] + 1]["kept_parameters"], line["model_parameters"])
        self.assertLess(trained[8]["macs_per_example"], 0.3 * trained[1]["macs_per_example"])
        for key in ("uplink_dense_bytes", "downlink_dense_bytes"):
            self.assertLess(rounds[-1][key], 0.3 * rounds[0][key])
        self.assertLess(size, 4 * 0.3 * whole + 20000)
        self.assertGreater(rounds[-1]["eval_accuracy"], 0.6)

    def test_with_feedback_and_mixed_widths(self):
        self.compare(flags(federation__wait_for_clients=6, compression__uplink="ef,ecsq:rate=0.7", aggregation__strategy="fedadam", fit__policy="by_turns",
                           fit__widths="[1,0.5]"))

    # A network scripted in Python ends as a smaller archive, which Python scores.
    def test_an_archive_is_pruned_for_good(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = pathlib.Path(folder) / "twin.pt"
            subprocess.run([PYTHON, str(HERE.parents[1] / "examples/torchscript/make_model.py"), "--out", str(archive)], check=True)
            rounds, attempts, size = self.compare(flags(federation__wait_for_clients=6, model__torchscript=archive, federation__rounds=4, prune__end=1, prune__regrow=0))
            self.assertLessEqual(rounds[-1]["model_parameters"], 59763)
            self.assertLess(size, 0.4 * archive.stat().st_size)
            self.assertGreater(rounds[-1]["eval_accuracy"], 0.5)

    # Masks save bytes alone: the network is as wide as ever.
    def test_single_weights_save_bytes_alone(self):
        rounds, attempts, size = self.compare(flags(federation__wait_for_clients=6, prune__unit="weights", prune__channels="magnitude", compression__uplink="float32"), "downlink_payload_bytes",
                                                clients=[f"{i}/6" for i in range(6)])
        whole = 784 * 200 + 200 + 200 * 200 + 200 + 2000 + 10
        self.assertLessEqual(rounds[-1]["model_parameters"], 0.3 * whole)
        self.assertEqual(len({line["fit"]["macs_per_example"] for line in attempts}), 1)
        self.assertGreater(size, 4 * whole)
        self.assertLess(rounds[-1]["uplink_payload_bytes"], 0.32 * rounds[0]["uplink_payload_bytes"])
        self.assertGreater(rounds[-1]["eval_accuracy"], 0.6)
        # Of those left in the end a client that was there since the last cut hears nothing more than the increment.
        last = [line["downlink_payload_bytes"] for line in attempts if line["round"] == 8]
        self.assertLess(min(last), max(line["downlink_payload_bytes"] for line in attempts if line["round"] == 6))

    # One client comes when the model has been cut already; the coordinator is killed in between.
    def test_a_late_joiner_and_a_killed_coordinator(self):
        with tempfile.TemporaryDirectory() as folder, Federation(folder, flags(training__local_steps=150), 6, [f"{i}/6" for i in range(5)]) as federation:
            federation.start()
            wait_for(lambda: len(federation.rounds()) >= 3, "two cuts")
            federation.server.kill()
            before = federation.rounds()
            federation.flags += settings(federation__wait_for_clients=6)  # on a busy machine the run would be over before the late one is there
            federation.start_server(listen=federation.address)
            federation.start_client("5/6")
            federation.finish()
            rounds = federation.rounds()
            self.assertEqual(digests(rounds)[:3], digests(before)[:3])
            self.assertEqual([line["round"] for line in rounds], list(range(1, 9)))
            self.assertEqual({line["outcome"] for line in rounds}, {"committed"})
            self.assertLessEqual(rounds[-1]["model_parameters"], 59763)
            late = [line for line in federation.attempts() if line["partition"] == 5]
            self.assertTrue(late, "the late joiner was asked")
            self.assertEqual({line["outcome"] for line in late}, {"accepted"})


if __name__ == "__main__":
    unittest.main()
