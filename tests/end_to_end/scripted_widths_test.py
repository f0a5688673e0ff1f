"""Networks scripted in Python train in a federation of mixed widths with no help; simulated and networked runs commit the same models."""

import pathlib
import subprocess
import tempfile
import unittest

from federation import DATA, Federation, read_lines, run_fleet, settings

PYTHON = "/usr/bin/python3"  # the one that Debian's python3-torchvision belongs to
MODELS = pathlib.Path(__file__).parents[1] / "model/torch/scripted_models.py"
HAS_TORCHVISION = subprocess.run([PYTHON, "-c", "import torchvision"], capture_output=True).returncode == 0


@unittest.skipUnless(HAS_TORCHVISION, "python3-torchvision is not installed")
class ScriptedWidthsTest(unittest.TestCase):
    def compare(self, name):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([PYTHON, MODELS, folder, "--gray", name], check=True)
            flags = settings(model__torchscript=f"{folder}/{name}.pt", data__path=DATA, partition__kind="iid", partition__clients=4, federation__rounds=2,
                             federation__clients_per_round=4, federation__wait_for_clients=4, federation__evaluation="none", training__local_steps=3,
                             training__batch_size=8, training__client_learning_rate=0.01, compression__preset="float32", fit__policy="by_capability",
                             fit__widths="[1, 0.5]", seed=7)
            simulated = [line["model_digest"] for line in run_fleet(f"{folder}/fleet", flags, workers=1)]
            self.assertEqual(len(set(simulated)), 2, "every round moved the model")
            attempts = [line for line in read_lines(pathlib.Path(folder) / "fleet" / "clients.jsonl") if line["outcome"] == "accepted"]
            parameters = {line["fit"]["width_fraction"]: line["fit"]["kept_parameters"] for line in attempts}
            self.assertEqual(set(parameters), {1, 0.5})
            self.assertLess(parameters[0.5], 0.3 * parameters[1])
            with Federation(f"{folder}/net", flags, 4) as federation:
                federation.start()
                federation.finish()
                self.assertEqual(simulated, [line["model_digest"] for line in federation.rounds()], "simulated and networked")
                self.assertEqual([line["outcome"] for line in federation.rounds()], ["committed"] * 2)
                self.assertIn("can be dropped; whole stay", federation.summary()["model_channels"])

    def test_resnet18(self):
        self.compare("resnet18")

    def test_mobilenet_v2(self):
        self.compare("mobilenet_v2")


if __name__ == "__main__":
    unittest.main()
