"""Clients that train narrower models: the same bits simulated and networked, over a crash too, and a wide model that survives them."""

import collections
import pathlib
import tempfile
import time
import unittest

from federation import DATA, Federation, read_lines, run_fleet, settings

MIX = dict(fit__policy="by_capability", fit__widths="[1,0.5,0.25,0.125,0.0625]")


def flags(architecture, **more):
    changes = dict(model__architecture=architecture, data__path=DATA, partition__kind="iid", partition__clients=6, federation__rounds=4,
                   federation__clients_per_round=4, federation__wait_for_clients=6, federation__evaluate_every=4, training__batch_size=10, seed=11)
    changes.update(more)
    return settings(**changes)


def digests(rounds):
    return [line["model_digest"] for line in rounds]


def fits(attempts):
    return sorted((line["round"], line["partition"], line["fit"]["width_fraction"], line["fit"]["kept_parameters"]) for line in attempts)


class MixedWidthsTest(unittest.TestCase):
    def compare(self, flags):
        with tempfile.TemporaryDirectory() as folder:
            one = digests(run_fleet(f"{folder}/one", flags, workers=1))
            self.assertEqual(len(set(one)), 4, "every round moved the model")
            self.assertEqual(one, digests(run_fleet(f"{folder}/two", flags, workers=2)), "one and two workers")
            # Three participants of different widths share a process.
            with Federation(f"{folder}/net", flags, 6, ["0/6", "1/6", "2/6", "3-5/6"]) as federation:
                federation.start()
                federation.finish()
                self.assertEqual(one, digests(federation.rounds()), "simulated and networked")
                attempts = federation.attempts()
                self.assertEqual(fits(attempts), fits(read_lines(federation.folder.parent / "one" / "clients.jsonl")))
                self.assertGreaterEqual(len({line["fit"]["width_fraction"] for line in attempts}), 4)
                self.assertEqual({line["outcome"] for line in attempts}, {"accepted"})
                return attempts

    def test_convolutions_with_the_default_preset(self):
        attempts = self.compare(flags("fedavg_cnn", training__local_steps=5, **MIX))
        sent, kept, macs = collections.Counter(), {}, {}
        for line in attempts:
            width = line["fit"]["width_fraction"]
            sent[width] = max(sent[width], line["uplink_payload_bytes"])
            kept[width], macs[width] = line["fit"]["kept_parameters"], line["fit"]["macs_per_example"]
        # The wire carries kept slices only, and narrow models are really smaller.
        full, half = 1663370, 16 * 26 + 32 * 401 + 256 * 1569 + 2570
        self.assertEqual([kept[1], kept[0.5]], [full, half])
        for width in kept:
            self.assertLess(sent[width] / kept[width], 2.5 * sent[1] / full, f"bytes a parameter at width {width}")
        self.assertGreater(macs[1] / macs[0.5], 3.5)

    def test_clients_that_take_turns(self):
        self.compare(flags("mlp_2nn", training__local_steps=20, compression__uplink="ef,int8", **{**MIX, "fit__policy": "by_turns"}))

    def test_rolling_channels(self):
        self.compare(flags("mlp_2nn", training__local_steps=20, fit__channels="rolling", compression__uplink="ef,int8", **MIX))

    def test_more_widths_than_chains(self):
        self.compare(flags("pfl_cnn", training__local_steps=3, fit__live=2, **MIX))

    def test_a_killed_coordinator_goes_on_with_every_width(self):
        more = dict(federation__rounds=6, training__local_steps=60, federation__evaluate_every=1)
        with tempfile.TemporaryDirectory() as folder:
            expected = digests(run_fleet(f"{folder}/fleet", flags("mlp_2nn", **more, **MIX)))
            with Federation(f"{folder}/net", flags("mlp_2nn", **more, **MIX), 6) as federation:
                federation.start()
                record = federation.out / "rounds.jsonl"
                deadline = time.monotonic() + 90
                while not record.exists() or len(record.read_text().splitlines()) < 2:
                    self.assertLess(time.monotonic(), deadline, "no two rounds")
                    time.sleep(0.02)
                federation.server.kill()
                address = federation.address
                federation.start_server(listen=address)
                federation.finish()
                self.assertEqual(digests(federation.rounds())[:2], expected[:2])
                self.assertEqual([line["round"] for line in federation.rounds()], [1, 2, 3, 4, 5, 6])
                self.assertEqual({line["outcome"] for line in federation.rounds()}, {"committed"})

    def test_a_majority_at_six_percent_does_not_destroy_the_wide_model(self):
        # 95 of 100 clients train 5 % of the parameters or less; the whole model is what is scored.
        base = dict(partition__clients=100, federation__clients_per_round=10, federation__wait_for_clients=100, federation__rounds=30,
                    federation__evaluate_every=5, training__client_learning_rate=0.05, data__normalization="standard")
        with tempfile.TemporaryDirectory() as folder:
            narrow = dict(fit__policy="by_capability", fit__widths="[1,0.0625]", fit__shares="[5,95]")
            rounds = run_fleet(f"{folder}/narrow", flags("mlp_2nn", **base, **narrow))
            widths = collections.Counter(line["fit"]["width_fraction"] for line in read_lines(pathlib.Path(folder) / "narrow" / "clients.jsonl"))
            self.assertGreater(widths[0.0625], 0.85 * sum(widths.values()))
            scores = [line["eval_accuracy"] for line in rounds if line["eval_accuracy"] is not None]
            self.assertGreater(scores[-1], 0.78)
            self.assertGreater(min(scores[1:]), 0.70, "at no time is it destroyed")


if __name__ == "__main__":
    unittest.main()
