"""A simulated and a networked federation with the same seed and members commit the same models, bit for bit, in every round."""

import pathlib
import tempfile
import unittest

from federation import DATA, Federation, read_lines, run_fleet, settings


def federation_flags(architecture, **more):
    return settings(model__architecture=architecture, data__path=DATA, partition__kind="dirichlet", partition__alpha=0.5, partition__clients=6,
                    federation__rounds=4, federation__clients_per_round=4, federation__wait_for_clients=6, federation__evaluate_every=4,
                    training__batch_size=10, seed=11, **more)


def digests(rounds):
    return [line["model_digest"] for line in rounds]


class IdenticalModelsTest(unittest.TestCase):
    def compare(self, flags):
        with tempfile.TemporaryDirectory() as folder:
            fleet = run_fleet(f"{folder}/one", flags, workers=1)
            one = digests(fleet)
            self.assertEqual(len(one), 4)
            self.assertEqual(len(set(one)), 4, "every round moved the model")
            self.assertEqual(one, digests(run_fleet(f"{folder}/two", flags, workers=2)), "one and two workers")
            # Three participants share a process, so that both ways of joining are seen.
            with Federation(f"{folder}/net", flags, 6, ["0/6", "1/6", "2/6", "3-5/6"]) as federation:
                federation.start()
                federation.finish()
                self.assertEqual(one, digests(federation.rounds()), "simulated and networked")
                self.assertEqual([line["outcome"] for line in federation.rounds()], ["committed"] * 4)
                self.assertEqual([line["eval_accuracy_by_width"] for line in federation.rounds()], [line["eval_accuracy_by_width"] for line in fleet])
            # And once more with the clients started in the other order.
            with Federation(f"{folder}/back", flags, 6, [f"{i}/6" for i in reversed(range(6))]) as federation:
                federation.start()
                federation.finish()
                self.assertEqual(one, digests(federation.rounds()), "clients in another order")
        return fleet

    def test_two_layer_network(self):
        self.compare(federation_flags("mlp_2nn", training__local_steps=40, compression__preset="float32"))

    def test_convolutions_with_dropout(self):
        self.compare(federation_flags("pfl_cnn", training__local_steps=5))

    def test_the_smallest_preset_with_convolutions(self):
        self.compare(federation_flags("pfl_cnn", training__local_steps=5, compression__preset="smallest"))

    def test_feedback_and_rates_held_by_the_coordinator(self):
        self.compare(federation_flags("mlp_2nn", training__local_steps=20, compression__uplink="ef,dct,ecsq:rate=0.4", compression__downlink="chain:rate=0.2:length=2"))

    def test_widths_by_budget_where_nobody_is_short(self):
        # Measured seconds differ between machines and virtual time; what follows from them does not, where they leave the choice no doubt.
        fleet = self.compare(federation_flags("mlp_2nn", training__local_steps=20, fit__policy="by_budget", fit__widths="[1,0.5,0.25]", federation__deadline="3h"))
        self.assertEqual([set(line["eval_accuracy_by_width"]) for line in fleet], [set()] * 3 + [{"0.5", "0.25"}])

    def test_formats_that_differ_between_clients_and_ranges_for_integers(self):
        flags = federation_flags("lenet", data__normalization="standard", training__local_steps=6, training__quantization="int8", fit__format="bfloat16")
        with tempfile.TemporaryDirectory() as folder:
            one = digests(run_fleet(f"{folder}/one", flags + settings(energy__device_class="server_core:0.5,raspberry_pi_4:0.5")))
            attempts = read_lines(pathlib.Path(folder) / "one" / "clients.jsonl")
            formats = {line["partition"]: line["fit"]["number_format"] for line in attempts if line["outcome"] == "accepted"}
            if "bfloat16" not in formats.values():
                self.skipTest(next(line["fit"]["number_format_reason"] for line in attempts))
            self.assertEqual(set(formats.values()), {"float32", "bfloat16"})
            with Federation(f"{folder}/net", flags, 6) as federation:
                federation.start_server()
                for partition in range(6):
                    federation.start_client(f"{partition}/6", settings(client__allow_bfloat16="true" if formats.get(partition) == "bfloat16" else "false"))
                federation.finish()
                self.assertEqual(one, digests(federation.rounds()))
                told = {line["partition"]: line["fit"] for line in federation.attempts() if line["outcome"] == "accepted"}
                self.assertEqual({partition: fit["number_format"] for partition, fit in told.items()}, formats)
                for fit in told.values():
                    self.assertEqual(fit["number_format_reason"], None if fit["number_format"] == "bfloat16" else "this client does not allow bfloat16")

    def test_compressed_both_ways_with_an_adaptive_optimizer(self):
        self.compare(federation_flags("mlp_2nn", training__local_steps=20, compression__uplink="int8", compression__downlink="bfloat16",
                                      aggregation__strategy="fedadam"))


if __name__ == "__main__":
    unittest.main()
