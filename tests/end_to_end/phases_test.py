"""Of a real client's life, from the process's start to its end, at least 99 % is in the phases of its ledger, and each of their joules has a tier."""

import json
import pathlib
import tempfile
import time
import unittest

from federation import DATA, Federation, settings

FLAGS = dict(model__architecture="mlp_2nn", data__path=DATA, partition__clients=2, federation__clients_per_round=2, federation__wait_for_clients=2,
             federation__rounds=50, federation__evaluate_every=5, training__local_epochs=1, seed=3)


class PhasesTest(unittest.TestCase):
    def test_a_clients_phases_tile_its_life(self):
        with tempfile.TemporaryDirectory() as folder, Federation(f"{folder}/net", settings(**FLAGS), 2) as federation:
            federation.start_server()
            federation.start_client("1/2")
            began = time.monotonic()
            state = pathlib.Path(folder) / "state"
            client = federation.start_client("0/2", ["--set", f"client.state_directory={state}"])
            self.assertEqual(client.wait(400), 0, client.tail())
            lived = time.monotonic() - began
            federation.finish()

            wall = joules = 0
            for line in (state / "ledger-0").read_text().splitlines():
                record = json.loads(line.split(" ", 1)[1])
                for span in record["phases"] + record.get("between", []):
                    wall += span["wall_us"] / 1e6
                    joules += span["energy_uj"] or 0
                    # Before the client could start its meter, nothing was metered, and nothing is claimed.
                    self.assertEqual(span["energy_uj"] is None, span["tier"] == "missing", span)
                    if span["phase"] != "init":
                        self.assertNotEqual(span["tier"], "missing", span)
            self.assertGreater(joules, 0)
            print(f"{wall:.2f} of {lived:.2f} s in phases, {100 * wall / lived:.2f} %")
            self.assertLessEqual(wall, lived + 0.02, "the kernel tells a process's age to 10 ms")
            self.assertGreaterEqual(wall, 0.99 * lived)


if __name__ == "__main__":
    unittest.main()
