"""Several processes on 127.0.0.1 tune one model: the same numbers, one writer, one end."""

import json
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.modeling.tiny_model import write_base
from tests.tuning.ranks import Download, End, Job, free_port, run_jobs, run_processes, variables
from tests.tuning.workbench import PLAN, Workbench, send_at
from tuneline.errors import Interrupted
from tuneline.modeling.checkpoints import STATE, checkpoint_path, newest_resumable
from tuneline.tuning import distributed
from tuneline.tuning.agreement import weights_fingerprint
from tuneline.tuning.history import History

ALIKE = 1e-5
"""How far losses may be apart, relative: sums of fp32 numbers in another order."""


def codes(ends: Sequence[End]) -> list[int | None]:
    return [end.code for end in ends]


def history_of(bench: Workbench, name: str, rank: int = 0) -> History:
    return History(**json.loads((bench.folder / f"{name}-history-{rank}.json").read_text()))


def curves(history: History) -> dict[str, object]:
    """What does not depend on the clock."""
    values = json.loads(json.dumps(asdict(history)))
    return {name: value for name, value in values.items() if name not in ("seconds", "tokens_per_second")}


def assert_alike(bench: Workbench, one: str, other: str, histories: tuple[History, History]) -> None:
    """Equal but for rounding: every loss, and the fp32 weights after the last step."""
    first, second = (curves(history) for history in histories)
    for split in ("train", "eval"):
        assert len(first[split]) > 0  # type: ignore[arg-type]
        for a, b in zip(first.pop(split), second.pop(split), strict=True):  # type: ignore[call-overload]
            assert a == {
                **b,
                "total_loss": pytest.approx(b["total_loss"], rel=ALIKE),
                "fraction_of_correct_next_step_preds": pytest.approx(b["fraction_of_correct_next_step_preds"]),
            }
    assert first == second
    states = [load_file(checkpoint_path(bench.outputs(name).checkpoints, PLAN.steps) / STATE[0]) for name in (one, other)]
    weights = [torch.cat([tensor.flatten() for name, tensor in sorted(state.items()) if name.startswith("weights.")]) for state in states]
    apart = (weights[0] - weights[1]).abs()
    # A step moves a weight by up to 3e-3. Where a gradient is rounding noise AdamW makes a step of it, so not every weight agrees.
    assert apart.mean() < 1e-7
    assert apart.quantile(0.999) < 1e-5


@pytest.mark.parametrize(("world_size", "changes"), [(2, {}), (3, {}), (3, {"batch_size": 1}), (2, {"batch_size": 9})])
def test_any_number_of_ranks_gives_the_same_losses_and_weights(world_size: int, changes: dict[str, object], bench: Workbench) -> None:
    alone = bench.tune("alone", **changes)
    others = [Job(bench.folder, "group", changes=changes, sees_outputs=False)] * (world_size - 1)
    ends = run_jobs(Job(bench.folder, "group", changes=changes), *others)
    assert codes(ends) == [0] * world_size, ends
    assert_alike(bench, "alone", "group", (alone, history_of(bench, "group")))
    assert {json.dumps(curves(history_of(bench, "group", rank))) for rank in range(world_size)} == {json.dumps(curves(history_of(bench, "group")))}
    assert len({(bench.folder / f"group-weights-{rank}").read_text() for rank in range(world_size)}) == 1
    assert not (bench.folder / "not-there").exists()
    assert (bench.outputs("group").tensorboard).exists()
    assert f"world_size={world_size}" in ends[-1].log


def test_a_process_by_itself_opens_no_process_group(bench: Workbench) -> None:
    opened: list[bool] = []
    bench.tune(steps=2, at_step=lambda _step: opened.append(torch.distributed.is_initialized()))
    assert opened == [False, False, False]


def test_all_ranks_stop_early_at_the_same_step(bench: Workbench) -> None:
    stalling = {"steps": 40, "evaluation_interval": 1, "learning_rate": 1e-9, "early_stopping": True}
    assert codes(run_jobs(*[Job(bench.folder, changes=stalling)] * 2)) == [0, 0]
    assert [history_of(bench, "out", rank).steps for rank in (0, 1)] == [3, 3]


@pytest.mark.parametrize(("rank", "number", "code"), [(1, signal.SIGTERM, 75), (0, signal.SIGTERM, 75), (1, signal.SIGINT, 130)])
def test_a_signal_to_one_rank_stops_all_after_the_same_step_and_both_ways_of_going_on_end_alike(
    rank: int, number: signal.Signals, code: int, bench: Workbench
) -> None:
    whole = run_jobs(*[Job(bench.folder, "whole")] * 2)
    jobs = [Job(bench.folder, "stopped"), Job(bench.folder, "stopped", sees_outputs=False)]
    jobs[rank] = replace(jobs[rank], signals={3: number})
    ends = run_jobs(*jobs)
    assert (codes(whole), codes(ends)) == ([0, 0], [code, code]), ends
    assert number == signal.SIGINT or f"SIGTERM on rank {rank}" in ends[1 - rank].log
    saved = newest_resumable(bench.outputs("stopped").checkpoints)
    assert saved is not None
    assert saved.step == 3
    # By one process: equal but for rounding. By as many as before: the same bytes.
    assert_alike(bench, "one", "whole", (bench.tune("one", resume_from="stopped"), history_of(bench, "whole")))
    assert codes(run_jobs(*[Job(bench.folder, "two", resume_from="stopped")] * 2)) == [0, 0]
    assert bench.master_weights("two", PLAN.steps) == bench.master_weights("whole", PLAN.steps)
    assert curves(history_of(bench, "two", 1)) == curves(history_of(bench, "whole"))


def test_what_one_process_began_two_can_finish_though_only_one_sees_the_folder(bench: Workbench) -> None:
    alone = bench.tune("alone")
    with pytest.raises(Interrupted):
        bench.tune("group", at_step=send_at(3))
    assert codes(run_jobs(Job(bench.folder, "group"), Job(bench.folder, "group", sees_outputs=False))) == [0, 0]
    assert_alike(bench, "alone", "group", (alone, history_of(bench, "group", 1)))


@pytest.mark.parametrize(("victim", "world_size"), [(1, 2), (0, 3)])
def test_when_a_rank_is_killed_the_others_end_by_themselves_and_can_be_run_again(victim: int, world_size: int, bench: Workbench) -> None:
    jobs = [Job(bench.folder)] * world_size
    jobs[victim] = replace(jobs[victim], signals={3: signal.SIGKILL})
    ends = run_jobs(*jobs)
    assert codes(ends) == [-9 if rank == victim else 13 for rank in range(world_size)], ends
    assert "lost the others while adding up losses" in ends[1 - victim].log
    saved = newest_resumable(bench.outputs().checkpoints)
    assert saved is not None
    assert saved.step == (2 if victim == 0 else 3)  # rank 0 saves what it has; killed itself, its last checkpoint counts
    bench.tune()


def test_a_rank_that_says_nothing_for_too_long_is_given_up(bench: Workbench) -> None:
    ends = run_jobs(Job(bench.folder, exchange_seconds=1), Job(bench.folder, exchange_seconds=1, silent_at=3))
    assert codes(ends) == [13, 13], ends
    assert "Timed out" in ends[0].log


def test_a_loss_that_is_not_finite_stops_all_with_the_same_error(bench: Workbench) -> None:
    ends = run_jobs(*[Job(bench.folder, spoiled_example=1)] * 2)
    assert codes(ends) == [1, 1], ends
    messages = {line for end in ends for line in end.log.splitlines() if "the loss is nan" in line}
    assert len(messages) == 1
    assert messages.pop().endswith("Lines of the training data: 2.")


def test_a_rank_with_another_base_model_or_plan_is_named_before_anything_is_written(bench: Workbench, tmp_path: Path) -> None:
    write_base(tmp_path / "other" / "base", seed=1)
    ends = run_jobs(Job(bench.folder), Job(tmp_path / "other", changes={"steps": 7}), Job(bench.folder))
    assert codes(ends) == [1, 1, 1], ends
    for end in ends:
        for name in ("base_model", "weights", "steps is 7, there 6"):
            assert f"rank 1 differs from rank 0: {name}" in end.log
        assert "rank 2 differs" not in end.log
    assert not bench.outputs().checkpoints.exists()


def test_what_rank_zero_finds_wrong_is_the_error_of_all(bench: Workbench) -> None:
    bench.tune(steps=2)
    ends = run_jobs(*[Job(bench.folder)] * 2)
    assert codes(ends) == [1, 1], ends
    assert all("checkpoints of another tuning: steps was 2 and is 6" in end.log for end in ends)


@pytest.mark.parametrize(("rank", "missing"), [(0, "for rank 1, 2."), (1, "found nobody at 127.0.0.1:")])
def test_a_rank_that_nobody_meets_gives_up_and_says_who_is_missing_where(rank: int, missing: str, bench: Workbench) -> None:
    port = free_port()
    [end] = run_processes(bench.folder, [(variables(rank, 3, port), Job(bench.folder, join_seconds=0.5))])
    assert end.code == 13
    assert missing in end.log
    assert f"127.0.0.1:{port}" in end.log


def test_ranks_that_were_told_different_sizes_say_so(bench: Workbench) -> None:
    port, job = free_port(), Job(bench.folder, join_seconds=3)
    ends = run_processes(bench.folder, [(variables(0, 2, port), job), (variables(1, 3, port), job)])
    assert 1 in codes(ends), ends
    assert set(codes(ends)) <= {1, 13}
    assert any("rank 1 was told of 3 ranks; rank 0 of 2" in end.log or "rank 0 was told of 2 ranks; rank 1 of 3" in end.log for end in ends)


def test_a_port_that_is_taken_is_an_error_of_the_infrastructure(bench: Workbench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        [end] = run_processes(bench.folder, [(variables(0, 2, taken.getsockname()[1]), Job(bench.folder))])
    assert end.code == 13
    assert "cannot listen at 127.0.0.1" in end.log


def test_under_torchrun_its_agent_listens_and_no_rank_does(bench: Workbench) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    agent = torch.distributed.TCPStore("127.0.0.1", port, None, True, timedelta(seconds=30), wait_for_workers=False, master_listen_fd=listener.detach())
    more = {"LOCAL_RANK": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    ends = run_processes(bench.folder, [({**variables(rank, 2, port), **more, "LOCAL_RANK": str(rank)}, Job(bench.folder)) for rank in (0, 1)])
    assert codes(ends) == [0, 0], ends
    assert agent.check(["tuneline/rank-0", "tuneline/rank-1"])


def test_a_download_is_made_by_one_process_of_a_machine_and_found_by_its_others(tmp_path: Path) -> None:
    port = free_port()
    ends = run_processes(tmp_path, [({**variables(rank, 3, port), "LOCAL_RANK": str(rank)}, Download(tmp_path / "download")) for rank in range(3)])
    assert codes(ends) == [0, 0, 0], ends


def test_large_gradients_travel_alone_and_small_ones_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "LARGE", 10)
    monkeypatch.setattr(distributed, "BUCKET", 12)
    tensors = [torch.zeros(size) for size in (5, 10, 7, 1, 40, 9, 3, 2)]
    assert [[len(tensor) for tensor in bucket] for bucket in distributed.buckets(tensors)] == [[10], [5, 7], [40], [1, 9], [3, 2]]
    assert list(distributed.buckets([])) == []


def test_the_fingerprint_sees_one_changed_weight() -> None:
    model = torch.nn.Linear(30, 20)
    before = weights_fingerprint(model)  # type: ignore[arg-type]
    with torch.no_grad():
        model.weight[3, 4] += 1e-6
    assert weights_fingerprint(model) != before  # type: ignore[arg-type]
