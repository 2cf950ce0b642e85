"""However a run ends before its time, it goes on as if it had not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from differential_diffusion.models.checkpoint import load_checkpoint
from differential_diffusion.training import (
    Progress,
    TrainingConfig,
    TrainingStopped,
    load_config,
    train,
)
from differential_diffusion.training.state import (
    STATE_FILE,
    checkpoint_folder,
    list_checkpoints,
)
from differential_diffusion.training.validation import Validator

from .processes import Server
from .test_processes import end, write


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def newest(output: str | Path) -> int:
    """The step of the newest checkpoint, 0 without any."""
    folders = list_checkpoints(Path(output))
    return int(folders[-1].name.removeprefix("step-")) if folders else 0


def assert_nothing_torn(output: Path) -> None:
    """Every checkpoint that a run could pick up can be read, and belongs to its step."""
    for folder in list_checkpoints(output):
        info = json.loads((folder / "training_state.json").read_text())
        assert folder.name == f"step-{info['step']:08d}"
        state = load_file(folder / STATE_FILE)
        network, described = load_checkpoint(folder)
        assert described.card["step"] == info["step"]
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[f"ema.{name}"])


def drafts(output: Path) -> list[Path]:
    return [path for path in output.rglob(".*") if path.name not in (".", "..")]


@pytest.mark.slow
def test_killed_twenty_times(settings: dict[str, Any], tmp_path: Path, server: Server) -> None:
    """At random moments, half of them while a checkpoint is written; all processes, or one."""
    steps, draw = 120, random.Random(5)
    settings |= {"steps": steps, "checkpoint": {"every": 1, "keep": 2}}
    settings["validation"] = {"every": 7, "crop": 16, "sample_steps": 1, "pictures": 2}
    server.train(write(settings | {"output": str(tmp_path / "whole")}, tmp_path / "whole.yaml"), 2)
    config, output = write(settings, tmp_path / "killed.yaml"), Path(settings["output"])
    checkpoints, midway, torn = output / "checkpoints", 0, 0
    for life in range(20):
        begun = newest(output)
        run = server.start(config, 2)
        started, writing = draw.random() < 0.85, False
        if started:
            goal = begun + draw.randrange(1, 8)
            run.until(lambda goal=goal: newest(output) >= goal)  # type: ignore[misc]
            writing = draw.random() < 0.6
            if writing:  # killed at once, or a little later
                run.until(lambda: any(checkpoints.glob(".step-*")))
        time.sleep(draw.random() * (0.2 if not writing else 0.004 if life % 2 else 0))
        # While they look for each other, one waits half an hour for the other: kill both.
        whom = draw.choice([None, None, 0, 1]) if started else None
        run.signal(signal.SIGKILL, whom)
        codes = run.wait(30)  # the other of two does not linger
        midway += any(codes)
        assert whom is not None or set(codes) <= {0, -signal.SIGKILL}
        torn += any(checkpoints.glob(".step-*"))
        assert_nothing_torn(output)
        assert newest(output) >= begun
    assert midway >= 15
    assert torn >= 3
    server.train(config, 2)
    assert_same(end(tmp_path / "whole"), end(output))
    finals = [
        load_file(folder / "final" / "model.safetensors") for folder in (tmp_path / "whole", output)
    ]
    assert_same(*finals)
    assert drafts(output) == []
    assert [folder.name[-3:] for folder in list_checkpoints(output)] == ["119", "120"]
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [*range(7, steps, 7), steps]


def test_a_signal_to_one_of_two_processes_stops_both(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    settings |= {"steps": 40, "checkpoint": {"every": 4, "keep": 2}}
    server.train(write(settings | {"output": str(tmp_path / "whole")}, tmp_path / "whole.yaml"), 2)
    config = write(settings, tmp_path / "run.yaml")
    for whom in (None, 0, 1):
        begun = newest(settings["output"])
        run = server.start(config, 2)
        run.until(lambda begun=begun: newest(settings["output"]) > begun)  # type: ignore[misc]
        run.signal(signal.SIGTERM, whom)
        assert run.wait() == [143, 143]
        step = newest(settings["output"])
        assert begun < step < 40
        assert run.log.read_text().count(f"stopped after step {step}; the same run goes on") == 2
    server.train(config, 2)
    assert_same(end(tmp_path / "whole"), end(settings["output"]))


def test_a_signal_to_the_group_spares_what_reads_the_data(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    settings |= {"steps": 100_000, "checkpoint": {"every": 100_000}}
    settings["data"] |= {"workers": 1}
    settings["validation"] |= {"every": 100_000}
    config = write(settings, tmp_path / "run.yaml")
    run = server.start(config)
    time.sleep(3)
    run.signal(signal.SIGTERM)
    assert run.wait() == [143], run.log.read_text()
    step = newest(settings["output"])
    assert f"stopped after step {step}; the same run goes on" in run.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heeded_after_the_step_at_hand(
    settings: dict[str, Any], tmp_path: Path, number: int
) -> None:
    settings["checkpoint"] = {"every": 100}
    before = signal.getsignal(number)

    def interrupt(progress: Progress) -> None:
        if progress.step == 5:
            os.kill(os.getpid(), number)

    config = load_config(write(settings, tmp_path / "run.yaml"))
    with pytest.raises(TrainingStopped) as stopped:
        train(config, on_step=interrupt)
    assert (stopped.value.step, stopped.value.signal) == (6, number)
    assert newest(config.output) == 6
    assert not (config.output / "final").exists()
    assert signal.getsignal(number) is before
    train(config)
    whole = settings | {"output": str(tmp_path / "whole")}
    train(load_config(write(whole, tmp_path / "whole.yaml")))
    assert_same(end(tmp_path / "whole"), end(config.output))


def test_a_second_signal_interrupts_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["checkpoint"] = {"every": 4}

    def interrupt(progress: Progress) -> None:
        if progress.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
            pytest.fail("it went on")

    config = load_config(write(settings, tmp_path / "run.yaml"))
    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=interrupt)
    assert newest(config.output) == 4
    assert drafts(config.output) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_the_command_ends_as_the_signal_says(
    settings: dict[str, Any], tmp_path: Path, count: int
) -> None:
    """128 and the number after one signal, and after two 130, with a sentence."""
    settings |= {"steps": 100_000, "checkpoint": {"every": 100_000}}
    settings["validation"] |= {"every": 100_000}
    if count == 2:  # long steps, so that both signals come in one
        settings["validation"] |= {"every": 1}
        settings["batch_size"] = 1024
    config = write(settings, tmp_path / "run.yaml")
    command = [sys.executable, "-m", "differential_diffusion", "train", str(config)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    if count == 2:
        process.stderr.readline()  # of the first validation
    else:
        while not Path(settings["output"]).is_dir():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1)
    for _ in range(count):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == (143 if count == 1 else 130)
    assert "Traceback" not in said
    if count == 1:
        step = newest(settings["output"])
        assert said.rstrip().endswith(
            f"stopped after step {step}; the same run goes on from there."
        )
    else:
        assert said.rstrip().endswith("the same command goes on from the last checkpoint.")


def judged(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[float]:
    """Have validations give these losses; the ones that are left."""
    left = list(losses)

    def measure(self: Validator, network: Any, bf16: bool = False) -> dict[str, float]:
        return {"loss_held_out": left.pop(0)}

    monkeypatch.setattr(Validator, "measure", measure)
    return left


def patient(settings: dict[str, Any], patience: int) -> dict[str, Any]:
    validation = {"every": 2, "patience": patience, "crop": 16, "sample_steps": 1}
    return settings | {"steps": 40, "validation": validation, "checkpoint": {"every": 3}}


def test_ends_early_when_the_loss_has_not_fallen(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = judged(monkeypatch, [3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.0])
    settings = patient(settings, 2)
    settings["checkpoint"]["keep_steps"] = [8]
    config = load_config(write(settings, tmp_path / "run.yaml"))
    notes: list[str] = []
    final = train(config, on_note=notes.append)
    assert left == [0.0]
    why = "the loss on held-out pictures has not fallen for 2 validations"
    assert notes[0] == f"stopped early after step 12: {why}."
    assert newest(config.output) == 12
    assert_holds(final, config, 8)

    train(config, on_note=notes.append)  # again: it stays where it is
    assert_holds(final, config, 8)
    assert [note for note in notes if note.startswith("stopped")] == [notes[0]] * 2
    assert left == [0.0]

    left[:] = [0.5, 2.0, 2.0, 2.0, 2.0]  # more patience: it goes on
    settings["checkpoint"]["keep_steps"] = [14]
    settings["validation"]["patience"] = 4
    more = load_config(write(settings, tmp_path / "more.yaml"))
    train(more, on_note=notes.append)
    assert left == []
    assert newest(config.output) == 22
    assert_holds(final, more, 14)


def assert_holds(final: Path, config: TrainingConfig, step: int) -> None:
    """That the model is the average of the weights as it was after a step."""
    network, described = load_checkpoint(final)
    kept, _ = load_checkpoint(checkpoint_folder(config.output, step))
    assert described.card["step"] == step
    for a, b in zip(network.parameters(), kept.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stop", [5, 7, 9])
def test_patience_goes_on_where_it_was(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Validations at 2, 4, 6 ... of which those after the last checkpoint are made again."""
    losses = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.0, 10: 2.0, 12: 2.0}
    left = judged(monkeypatch, list(losses.values()))

    class Stop(Exception):
        pass

    def on_step(progress: Progress) -> None:
        if progress.step == stop:
            raise Stop

    config = load_config(write(patient(settings, 3), tmp_path / "run.yaml"))
    with pytest.raises(Stop):
        train(config, on_step=on_step)
    left[:] = [loss for step, loss in losses.items() if step > newest(config.output)]
    train(config)
    assert newest(config.output) == 10
    assert left == [2.0]


def test_an_early_end_is_agreed_on_by_two_processes(
    settings: dict[str, Any], tmp_path: Path, server: Server
) -> None:
    """Nothing is learnt at a rate that rounds to nothing: the loss cannot fall."""
    still = {"learning_rate": 1e-30, "muon_learning_rate": 1e-30}
    settings = patient(settings, 2) | {"optimizer": still}
    config = write(settings, tmp_path / "run.yaml")
    run = server.start(config, 2)
    assert run.wait() == [0, 0]
    assert run.log.read_text().count("stopped early after step 6") == 1
    assert newest(settings["output"]) == 6


def test_dropout_is_reproducible_and_goes_on_exactly(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    ends = {}
    network = settings["network"] | {"dropout": 0.4}

    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 7:
            raise Stop

    for name, share in (("one", 0.4), ("two", 0.4), ("stopped", 0.4), ("none", 0.0)):
        made = settings | {"output": str(tmp_path / name)}
        made |= {"network": network | {"dropout": share}, "checkpoint": {"every": 3}}
        config = load_config(write(made, tmp_path / f"{name}.yaml"))
        torch.manual_seed(len(ends))  # of no importance, and left alone
        state = torch.get_rng_state()
        if name == "stopped":
            with pytest.raises(Stop):
                train(config, on_step=stop)
        train(config)
        assert torch.equal(torch.get_rng_state(), state)
        ends[name] = end(config.output)
    assert_same(ends["one"], ends["two"])
    assert_same(ends["one"], ends["stopped"])
    assert not torch.equal(ends["one"]["network.head.weight"], ends["none"]["network.head.weight"])
