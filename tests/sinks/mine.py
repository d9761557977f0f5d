"""Sinks of a user's own."""

import json

from cnnjax.sinks import Sink


class Notes(Sink):
    """Writes every call to a file in the run's folder."""

    def start(self, folder, config, step):
        self._file = folder / "notes.jsonl"
        self._add("start", config.get("model"), step)

    def write(self, step, metrics):
        self._add("write", step, dict(metrics))

    def histograms(self, step, arrays):
        self._add("histograms", step, {name: array.tolist() for name, array in arrays.items()})

    def figure(self, step, name, path):
        self._add("figure", step, name, path.name)

    def flush(self):
        self._add("flush")

    def close(self):
        self._add("close")

    def _add(self, *words):
        with open(self._file, "a") as file:
            file.write(json.dumps(words) + "\n")


def notes(folder):
    """What the sink was called with."""
    return [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]


class Broken(Sink):
    """Fails at step 2."""

    def write(self, step, metrics):
        if step == 2:
            raise ConnectionError("the network\nis down")
