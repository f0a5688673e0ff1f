"""A simulated and a networked federation with the same seed and members commit the same models, bit for bit, in every round."""

import tempfile
import unittest

from federation import DATA, Federation, run_fleet, settings


def federation_flags(architecture, **more):
    return settings(model__architecture=architecture, data__path=DATA, partition__kind="dirichlet", partition__alpha=0.5, partition__clients=6,
                    federation__rounds=4, federation__clients_per_round=4, federation__wait_for_clients=6, federation__evaluate_every=4,
                    training__batch_size=10, seed=11, **more)


def digests(rounds):
    return [line["model_digest"] for line in rounds]


class IdenticalModelsTest(unittest.TestCase):
    def compare(self, flags):
        with tempfile.TemporaryDirectory() as folder:
            one = digests(run_fleet(f"{folder}/one", flags, workers=1))
            self.assertEqual(len(one), 4)
            self.assertEqual(len(set(one)), 4, "every round moved the model")
            self.assertEqual(one, digests(run_fleet(f"{folder}/two", flags, workers=2)), "one and two workers")
            # Three participants share a process, so that both ways of joining are seen.
            with Federation(f"{folder}/net", flags, 6, ["0/6", "1/6", "2/6", "3-5/6"]) as federation:
                federation.start()
                federation.finish()
                self.assertEqual(one, digests(federation.rounds()), "simulated and networked")
                self.assertEqual([line["outcome"] for line in federation.rounds()], ["committed"] * 4)
            # And once more with the clients started in the other order.
            with Federation(f"{folder}/back", flags, 6, [f"{i}/6" for i in reversed(range(6))]) as federation:
                federation.start()
                federation.finish()
                self.assertEqual(one, digests(federation.rounds()), "clients in another order")

    def test_two_layer_network(self):
        self.compare(federation_flags("mlp_2nn", training__local_steps=40, compression__preset="float32"))

    def test_convolutions_with_dropout(self):
        self.compare(federation_flags("pfl_cnn", training__local_steps=5))

    def test_the_smallest_preset_with_convolutions(self):
        self.compare(federation_flags("pfl_cnn", training__local_steps=5, compression__preset="smallest"))

    def test_feedback_and_rates_held_by_the_coordinator(self):
        self.compare(federation_flags("mlp_2nn", training__local_steps=20, compression__uplink="ef,dct,ecsq:rate=0.4", compression__downlink="chain:rate=0.2:length=2"))

    def test_compressed_both_ways_with_an_adaptive_optimizer(self):
        self.compare(federation_flags("mlp_2nn", training__local_steps=20, compression__uplink="int8", compression__downlink="bfloat16",
                                      aggregation__strategy="fedadam"))


if __name__ == "__main__":
    unittest.main()
