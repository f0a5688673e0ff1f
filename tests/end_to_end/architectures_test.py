"""The sequence, spiking and separable architectures, federated: a fleet and processes commit the same models, and Python scores what is delivered as the run did."""

import subprocess
import tempfile
import unittest

from federation import DATA, Federation, run_fleet, settings

SMALL_TRANSFORMER = '{ width = "16", heads = "2", blocks = "1"%s }'
MODELS = {
    "softmax_transformer": SMALL_TRANSFORMER % "",
    "linear_transformer": SMALL_TRANSFORMER % "",
    "local_transformer": SMALL_TRANSFORMER % ', window = "8"',
    "performer": SMALL_TRANSFORMER % ', features = "8", redraw_rounds = "2"',
    "gru": '{ width = "8", hidden_size = "16" }',
    "min_gru": '{ width = "16", hidden_size = "16", forward_size = "16", blocks = "1" }',
    "lif_snn": '{ hidden_size = "32" }',
    "mobile_cnn": '{ channels = "4" }',
}

# Reads the folders of runs that made a model, prints the accuracy of each on the test images.
SCORE = """
import gzip, json, pathlib, sys, torch
read = lambda name: gzip.open(pathlib.Path(%r) / name).read()
images = torch.frombuffer(bytearray(read("t10k-images-idx3-ubyte.gz")[16:]), dtype=torch.uint8).view(-1, 1, 28, 28).float() / 255
labels = torch.frombuffer(bytearray(read("t10k-labels-idx1-ubyte.gz")[8:]), dtype=torch.uint8).long()
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    model = torch.jit.load(f"{folder}/model/final.pt")
    with torch.no_grad():
        scores = torch.cat([model(batch) for batch in images.split(1000)])
    print((scores.argmax(1) == labels).double().mean().item())
""" % DATA


class ArchitecturesTest(unittest.TestCase):
    def test_fleet_and_processes_agree_and_python_scores_what_is_delivered(self):
        with tempfile.TemporaryDirectory() as folder:
            accuracies = {}
            for name, options in MODELS.items():
                flags = settings(model__architecture=name, model__options=options, data__path=DATA, partition__clients=4, federation__rounds=3,
                                 federation__clients_per_round=3, federation__wait_for_clients=4, federation__evaluate_every=3, training__local_steps=4,
                                 training__batch_size=10, training__client_learning_rate=0.3, fit__policy="by_turns", fit__widths="[1,0.5]", fit__shares="[1,1]", seed=5)
                fleet = run_fleet(f"{folder}/{name}", flags)
                digests = [line["model_digest"] for line in fleet]
                self.assertEqual(len(set(digests)), 3, f"{name}: every round moved the model")
                accuracies[name] = fleet[-1]["eval_accuracy"]
                with Federation(f"{folder}/{name}-net", flags, 4, ["0-3/4"]) as federation:
                    federation.start()
                    federation.finish()
                    self.assertEqual(digests, [line["model_digest"] for line in federation.rounds()], name)
                    self.assertEqual(len({line["fit"]["width_fraction"] for line in federation.attempts() if line["outcome"] == "accepted"}), 2, f"{name}: two widths")
            if subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True).returncode != 0:
                self.skipTest("python3-torch is not installed")
            scored = subprocess.run(["/usr/bin/python3", "-c", SCORE] + [f"{folder}/{name}" for name in MODELS], capture_output=True, text=True, timeout=300)
            self.assertEqual(scored.returncode, 0, scored.stderr)
            for (name, accuracy), line in zip(accuracies.items(), scored.stdout.split(), strict=True):
                # Another order of sums may turn a tie.
                self.assertAlmostEqual(float(line), accuracy, delta=0.0005, msg=name)


if __name__ == "__main__":
    unittest.main()
