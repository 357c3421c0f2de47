"""What decoding costs in prefilled tokens, measured on the engine itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Finished, Request
from agentmem.primitives import ratio as module
from agentmem.primitives.pte import DeviceRatio
from agentmem.primitives.ratio import FILE, Ratio, measure_ratio
from agentmem.primitives.together import Done, Halt
from tests.engine.runs import request, run


def paced(prefill: float, decode: float, per_position: float) -> Callable[..., list[Done]]:
    """Turns of a device that takes exactly so long for a prefilled token and a decoded one."""
    remembered = 0

    def turns(engine: Engine, requests: list[Request], halt: Halt, on_text: object) -> list[Done]:
        nonlocal remembered
        (one,) = requests
        events = run(engine, one)
        finished = events[-1]
        assert isinstance(finished, Finished)
        new = len(one.input.ids)  # type: ignore[union-attr]
        assert finished.usage.prefill_tokens == new
        remembered = finished.usage.prompt_tokens
        timings = replace(
            finished.timings,
            prefill_s=prefill * new,
            decode_s=finished.usage.generated_tokens * (decode + per_position * remembered),
        )
        return [Done(replace(finished, timings=timings), "")]

    return turns


def test_the_ratio_is_that_of_the_devices_times(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_together", paced(prefill=0.002, decode=0.006, per_position=0.00004))
    found = measure_ratio(engine, Halt())
    assert found is not None
    assert found.per_token == pytest.approx(3)
    assert found.per_position == pytest.approx(0.02)


def test_a_real_device_has_one_and_it_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MORE", 100)
    found = measure_ratio(engine, Halt())
    assert found is not None
    assert found.per_token > 0
    assert engine.list_agents("default") == []


def test_it_is_measured_once_and_kept(engine: Engine, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Engine] = []

    def measured(engine: Engine, halt: Halt) -> DeviceRatio:
        asked.append(engine)
        return DeviceRatio(0.5, len(asked))

    monkeypatch.setattr(module, "measure_ratio", measured)
    first = Ratio(engine, state)
    assert first.get() == first.get() == Ratio(engine, state).get() == DeviceRatio(0.5, 1)
    assert (state / FILE).stat().st_mode & 0o777 == 0o600
    assert list(json.loads((state / FILE).read_text())) == [engine.setup]
    (state / FILE).write_text(json.dumps({engine.setup: {"per_position": -1}}))  # what is wrong with it costs time only
    assert Ratio(engine, state).get() == DeviceRatio(0.5, 2)
    (state / FILE).write_text(json.dumps({"another": {"per_position": 1.0, "per_token": 2.0}}))
    assert Ratio(engine, state).get() == DeviceRatio(0.5, 3)
    assert set(json.loads((state / FILE).read_text())) == {"another", engine.setup}


def test_not_while_others_would_be_measured_along(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Ratio(engine, None)
    monkeypatch.setattr(module, "measure_ratio", lambda engine, halt: DeviceRatio(0.5))
    real = engine.stats
    monkeypatch.setattr(engine, "stats", lambda: replace(real(), running=1))
    assert one.get() is None
    monkeypatch.setattr(engine, "stats", real)
    assert one.get() == DeviceRatio(0.5)


def test_not_kept_where_others_were_measured_along(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MORE", 100)
    real, one = module.measure_ratio, Ratio(engine, None)

    def among_others(engine: Engine, halt: Halt) -> DeviceRatio | None:
        run(engine, request(1, 2))
        return real(engine, halt)

    monkeypatch.setattr(module, "measure_ratio", among_others)
    assert one.get() is None
    monkeypatch.setattr(module, "measure_ratio", real)
    assert one.get() is not None


def test_a_context_that_costs_nothing_is_not_believed_twice(
    engine: Engine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, found = Ratio(engine, state), DeviceRatio(0.0, 3.0)
    monkeypatch.setattr(module, "measure_ratio", lambda engine, halt: found)
    assert one.get() == found
    assert not (state / FILE).exists()
    found = DeviceRatio(0.5, 3.0)
    assert one.get() == found


def test_none_where_there_is_no_room(checkpoint: Path, tmp_path: Path) -> None:
    engine = Engine.open(EngineSettings(tmp_path, str(checkpoint), ram_budget=0))
    assert Ratio(engine, None).get() is None
    engine.close()


def test_setup_names_the_model_and_the_machine(engine: Engine) -> None:
    assert engine.model_info().state_id in engine.setup
    assert "mlx" in engine.setup
    assert run(engine, request(1, 2))
