"""A model scripted in Python trains like its built-in twin, and both final models score in Python what the run record says."""

import pathlib
import subprocess
import tempfile
import unittest

from federation import DATA, Federation, run_fleet, settings

PYTHON = "/usr/bin/python3"  # the one that Debian's python3-torch belongs to
HERE = pathlib.Path(__file__).parent
HAS_TORCH = subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode == 0


def python(*command):
    done = subprocess.run([PYTHON, *map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@unittest.skipUnless(HAS_TORCH, "python3-torch is not installed")
class OwnModelTest(unittest.TestCase):
    def train(self, folder, model):
        flags = settings(data__path=DATA, partition__kind="iid", partition__clients=4, federation__rounds=8, federation__clients_per_round=4,
                         federation__wait_for_clients=4, training__local_steps=400, training__batch_size=10, training__client_learning_rate=0.05,
                         seed=5, **model)
        with Federation(folder, flags, 4) as federation:
            federation.start()
            federation.finish()
            summary = federation.summary()
            rounds = federation.rounds()
        scored = float(python(HERE / "score.py", summary["model_path"]))
        self.assertAlmostEqual(scored, summary["final_accuracy"], delta=1e-4)
        if "model__architecture" in model:
            self.assertAlmostEqual(float(python(HERE / "score.py", summary["int8_model_path"])), summary["int8_accuracy"], delta=1e-4)
            self.assertAlmostEqual(summary["int8_accuracy"], summary["final_accuracy"], delta=0.01)
            self.assertLess(summary["int8_model_bytes"], 0.3 * pathlib.Path(summary["model_path"]).stat().st_size)
        else:
            self.assertIn("torchscript", summary["int8_missing_reason"])
            self.assertIsNone(summary["int8_model_path"])
        return summary["final_accuracy"], sum(round["client_cpu_seconds"] for round in rounds), sum(round["client_energy_uj"] for round in rounds)

    def test_the_twin_trains_as_well_and_both_score_in_python(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = f"{folder}/twin.pt"
            python(HERE.parents[1] / "examples/torchscript/make_model.py", "--out", archive)
            built_in, built_in_cpu, built_in_energy = self.train(f"{folder}/built-in", dict(model__architecture="mlp_2nn"))
            own, own_cpu, own_energy = self.train(f"{folder}/own", dict(model__torchscript=archive))
            print(f"built-in {built_in:.4f}, {built_in_cpu:.1f} CPU s; scripted in Python {own:.4f}, {own_cpu:.1f} CPU s")
            # The process that trains the archive is counted: without it a fiftieth would be left.
            self.assertGreater(own_cpu, 0.4 * built_in_cpu)
            self.assertGreater(own_energy, 0.4 * built_in_energy)
            self.assertGreater(built_in, 0.8)
            # They start from different weights: 0.01 is twice the spread between seeds at this length.
            self.assertAlmostEqual(own, built_in, delta=0.01)

    def test_adapters_over_a_frozen_archive(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = f"{folder}/base.pt"
            python(HERE.parents[1] / "examples/torchscript/make_model.py", "--out", archive)
            flags = settings(model__torchscript=archive, model__options="{adapter_rank=8}", data__path=DATA, partition__kind="iid", partition__clients=4, federation__rounds=4,
                             federation__clients_per_round=4, federation__wait_for_clients=4, training__local_steps=100, training__batch_size=10, training__client_learning_rate=1, seed=5)
            fleet = run_fleet(f"{folder}/fleet", flags)
            digests = [line["model_digest"] for line in fleet]
            self.assertEqual(len(set(digests)), 4, "every round moved the model")
            with Federation(f"{folder}/net", flags, 4) as federation:
                federation.start()
                federation.finish()
                summary = federation.summary()
                rounds = federation.rounds()
                attempts = federation.attempts()
            self.assertEqual([line["model_digest"] for line in rounds], digests, "simulated and networked")
            # 8 values of each row, and the biases; the network computes as much as the whole one.
            self.assertEqual({line["fit"]["kept_parameters"] for line in attempts}, {410 * 8 + 410})
            self.assertEqual({line["fit"]["macs_per_example"] for line in attempts}, {784 * 200 + 200 * 200 + 200 * 10 + 410})
            self.assertGreater(rounds[-1]["eval_accuracy"], rounds[0]["eval_accuracy"])
            self.assertGreater(summary["final_accuracy"], 0.5)
            self.assertAlmostEqual(float(python(HERE / "score.py", summary["model_path"])), summary["final_accuracy"], delta=1e-4)
            shapes = python("-c", f"import torch; print([list(p.shape) for p in torch.jit.load({summary['model_path']!r}).parameters()])")
            self.assertEqual(shapes.strip(), "[[200, 784], [200], [200, 200], [200], [10, 200], [10]]")


if __name__ == "__main__":
    unittest.main()
