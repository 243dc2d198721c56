"""The step from files to files, with tiny random models."""

import json
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.modeling.tiny_model import write_base
from tuneline.data.dataset import TokenDataset
from tuneline.data.tokens import load_tokenizer
from tuneline.data.transformation import Transformation
from tuneline.errors import ModelError
from tuneline.evaluation.results import Evaluation, Measured
from tuneline.modeling.checkpoints import write_checkpoint, write_final
from tuneline.modeling.loading import load_model
from tuneline.modeling.scoring import score
from tuneline.progress import read_progress
from tuneline.resolution import Champion, Limits, Resolved, ResolvedModel
from tuneline.steps.evaluate_model import main

CPU = torch.device("cpu")
MAX_TOKENS = 6


def write_random_model(folder: Path, *, seed: int) -> None:
    write_base(folder, seed=seed)


class Pipeline:
    """The outputs of the tasks before, on disk, and a place for this one's."""

    def __init__(self, folder: Path, *, evaluation: bool = True) -> None:
        self.folder = folder
        self.base = write_base(folder / "base")
        self.examples = [{"input_text": f"def f{i}(x):" + "#" * (3 * i), "output_text": f"return x + {i}"} for i in range(6)]
        self.dataset = folder / "dataset"
        data = folder / "data.jsonl"
        data.write_text("".join(json.dumps(example) + "\n" for example in self.examples), encoding="utf-8")
        transformation = Transformation(tokenizer=load_tokenizer(self.base), base_model="tiny", max_sequence_length=256, limits=Limits())
        general = folder / "general.jsonl"
        general.write_text("".join(json.dumps({**example, "output_text": "pass"}) + "\n" for example in self.examples[:2]), encoding="utf-8")
        transformation.run(str(data), str(data) if evaluation else "", self.dataset, general_uri=str(general))
        checkpoints = [write_checkpoint(folder / "checkpoints", step, partial(write_random_model, seed=step)) for step in (20, 40)]
        write_final(folder / "checkpoints", checkpoints[-1])
        self.resolved = folder / "resolved.json"
        model = ResolvedModel(reference="tiny", uri=str(self.base), max_sequence_length=256, learning_rate=1e-3)
        decided = Resolved(
            backend="local", pipeline_region="local", upload_region="local", tuning_region="local", machine_type="", accelerator_type="",
            accelerator_count=0, batch_size=2, base_model=model, limits=Limits(), reasons=(),
        )  # fmt: skip
        self.resolved.write_text(decided.to_json(), encoding="utf-8")
        self.write_history()

    def write_history(self, **accuracies: float) -> None:
        """`s20=0.5`: token accuracy 0.5 measured at step 20."""
        evaluations = [
            {"step": int(name[1:]), "total_loss": 1.0, "fraction_of_correct_next_step_preds": accuracy, "num_predictions": 77}
            for name, accuracy in accuracies.items()
        ]
        content = {
            "steps": 40, "examples": 6, "batch_size": 2, "epochs": 13.3, "stopped_early": "", "seconds": 1.0, "tokens_per_second": 9.0,
            "learning_rate": 1e-3, "train": [], "eval": evaluations, "checkpoints": [20, 40],
        }  # fmt: skip
        (self.folder / "history.json").write_text(json.dumps(content), encoding="utf-8")

    def run(self, **parameters: object) -> Evaluation:
        flags = {"evaluation_num_prompts": 3, "evaluation_max_tokens": MAX_TOKENS, **parameters}
        paths = {
            "dataset_fingerprint": "f", "tuner_image": "i", "output_gcp_resources": self.folder / "out/gcp_resources",
            "resolved": self.resolved, "dataset": self.dataset, "checkpoints": self.folder / "checkpoints",
            "history": self.folder / "history.json", "output_evaluation": self.folder / "out/evaluation.json",
            "executor_output": self.folder / "out/executor_output.json",
        }  # fmt: skip
        main([text for name, value in {**flags, **paths}.items() for text in (f"--{name.replace('_', '-')}", str(value))])
        return Evaluation.read(self.folder / "out/evaluation.json")

    def metadata(self) -> dict[str, object]:
        output = json.loads((self.folder / "out/executor_output.json").read_text(encoding="utf-8"))
        [artifact] = output["artifacts"]["evaluation"]["artifacts"]
        assert artifact["uri"] == str(self.folder / "out/evaluation.json")
        found: dict[str, object] = artifact["metadata"]
        return found

    def put_champion(self, folder: Path) -> None:
        """From now on this model is the one to be beaten."""
        decided = replace(Resolved.read(self.resolved), champion=Champion(model_resource_name="models/1@1", uri=str(folder)))
        self.resolved.write_text(decided.to_json(), encoding="utf-8")

    def score(self, model: Path, examples: str = "evaluation") -> Measured:
        found = score(
            load_model(model, packed=True, dtype=torch.float32, device=CPU), TokenDataset.read(self.dataset / f"{examples}.safetensors"), tokens_per_row=64
        )
        return Measured(step=0, **asdict(found))

    def answer(self, model: Path, prompt_ids: list[int]) -> str:
        """Greedy, without batch and cache."""
        tokenizer, loaded, answer = load_tokenizer(self.base), load_model(model, packed=False, dtype=torch.float32, device=CPU), list[int]()
        with torch.inference_mode():
            while len(answer) < MAX_TOKENS:
                token = int(loaded(torch.tensor([[*prompt_ids, *answer]])).logits[0, -1].argmax())
                if token in tokenizer.end_of_turn_ids:
                    break
                answer.append(token)
        return tokenizer.decode(answer)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_what_tuning_measured_is_taken_and_what_is_missing_is_scored(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.99)
    evaluation = pipeline.run(evaluation_num_prompts=0)
    assert (evaluation.base.token_accuracy, evaluation.candidates[0].token_accuracy) == (0.25, 0.99)
    assert evaluation.candidates[0].num_predictions == 77
    scored, expected = evaluation.candidates[1], pipeline.score(pipeline.folder / "checkpoints/postprocess/node-0/checkpoints/checkpoint-40")
    assert scored.step == 40
    assert scored.loss == pytest.approx(expected.loss, rel=1e-5)
    assert (scored.token_accuracy, scored.num_predictions) == (expected.token_accuracy, expected.num_predictions)
    assert evaluation.selected_step == 20


def test_base_and_selected_answer_the_first_prompts(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.9, s40=0.5)
    evaluation = pipeline.run()
    prompts = [json.loads(line) for line in (pipeline.dataset / "evaluation_prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [generation.line for generation in evaluation.generations] == [1, 2, 3]
    chosen = pipeline.folder / "checkpoints/postprocess/node-0/checkpoints/checkpoint-20"
    for generation, prompt in zip(evaluation.generations, prompts[:3], strict=True):
        assert (generation.prompt, generation.reference) == (prompt["prompt"], prompt["reference"])
        assert generation.base == pipeline.answer(pipeline.base, prompt["prompt_ids"])
        assert generation.tuned == pipeline.answer(chosen, prompt["prompt_ids"])
    assert {generation.base for generation in evaluation.generations} != {generation.tuned for generation in evaluation.generations}
    assert evaluation.base.chrf is not None
    assert evaluation.candidates[0].chrf is not None
    assert evaluation.candidates[1].chrf is None


def test_a_generation_metric_is_measured_for_every_candidate(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.9, s40=0.5)
    evaluation = pipeline.run(selection_metric="chrf", evaluation_num_prompts=2)
    assert all(measured.chrf is not None for measured in (evaluation.base, *evaluation.candidates))
    assert evaluation.metric == "chrf"
    assert evaluation.selected.chrf == max(measured.chrf or 0.0 for measured in evaluation.candidates)


def test_the_artifact_carries_flat_finite_metrics(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.9, s40=0.5)
    pipeline.run(evaluation_num_prompts=1)
    metadata = pipeline.metadata()
    assert metadata["base_token_accuracy"] == 0.25
    assert metadata["selected_token_accuracy"] == 0.9
    assert metadata["selected_step"] == 20
    assert {"base_chrf", "selected_exact_match", "selected_rouge_l"} <= metadata.keys()
    assert all(isinstance(value, (int, float, str)) for value in metadata.values())


def test_results_are_also_written_to_the_evaluation_folder(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.9, s40=0.5)
    evaluation = pipeline.run(evaluation_num_prompts=0, evaluation_output_root_dir=pipeline.folder / "results/here")
    assert Evaluation.read(pipeline.folder / "results/here/evaluation.json") == evaluation


def test_progress_is_reported(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_PROGRESS_FILE", str(pipeline.folder / "progress.json"))
    pipeline.write_history(s0=0.25, s20=0.9, s40=0.5)
    pipeline.run()
    progress = read_progress(pipeline.folder / "progress.json")
    assert progress is not None
    assert (progress.activity, progress.completed, progress.total) == ("answers of step 20", 3, 3)


def test_without_evaluation_data_the_candidates_are_only_listed(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, evaluation=False)
    evaluation = pipeline.run()
    assert evaluation.candidates == (Measured(step=20), Measured(step=40))
    assert (evaluation.selected_step, evaluation.generations) == (40, ())
    assert json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8"))["base"] == {}
    assert pipeline.metadata() == {"metric": "token_accuracy", "selected_step": 40}


def test_no_finished_checkpoint_is_the_users_error(pipeline: Pipeline) -> None:
    for marker in pipeline.folder.glob("checkpoints/**/COMMIT.json"):
        marker.unlink()
    with pytest.raises(ModelError, match="no finished checkpoint"):
        pipeline.run()


# The champion


def test_the_champion_is_measured_like_the_others_and_on_the_general_examples(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.99, s40=0.5)
    champion = write_base(pipeline.folder / "champion", seed=7)
    pipeline.put_champion(champion)
    evaluation = pipeline.run(evaluation_num_prompts=0, champion_gate="true")
    expected, general = pipeline.score(champion), pipeline.score(champion, "general")
    assert evaluation.champion is not None
    assert evaluation.champion.loss == pytest.approx(expected.loss, rel=1e-5)
    assert (evaluation.champion.token_accuracy, evaluation.champion.num_predictions) == (expected.token_accuracy, expected.num_predictions)
    assert evaluation.champion.general_loss == pytest.approx(general.loss, rel=1e-5)
    selected = pipeline.score(pipeline.folder / "checkpoints/postprocess/node-0/checkpoints/checkpoint-20", "general")
    assert evaluation.selected.general_loss == pytest.approx(selected.loss, rel=1e-5)
    assert pipeline.metadata()["champion_general_loss"] == evaluation.champion.general_loss


def test_without_the_gate_a_champion_is_not_measured(pipeline: Pipeline) -> None:
    pipeline.write_history(s0=0.25, s20=0.99, s40=0.5)
    pipeline.put_champion(pipeline.folder / "nowhere")
    assert pipeline.run(evaluation_num_prompts=0).champion is None


@pytest.mark.parametrize("damage", ["other", "missing"])
def test_a_champion_that_reads_other_tokens_cannot_be_compared(pipeline: Pipeline, damage: str) -> None:
    champion = Path(shutil.copytree(pipeline.base, pipeline.folder / "champion"))
    tokenizer = champion / "tokenizer.json"
    if damage == "other":
        tokenizer.write_text(tokenizer.read_text() + " ")
    else:
        tokenizer.unlink()
    pipeline.put_champion(champion)
    with pytest.raises(ModelError, match=r"the champion models/1@1 has another tokenizer than the base model"):
        pipeline.run(champion_gate="true")


def test_a_champion_that_could_run_code_is_not_loaded(pipeline: Pipeline) -> None:
    champion = Path(shutil.copytree(pipeline.base, pipeline.folder / "champion"))
    config = json.loads((champion / "config.json").read_text())
    (champion / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "code.Model"}}))
    pipeline.put_champion(champion)
    with pytest.raises(ModelError, match="auto_map"):
        pipeline.run(champion_gate="true")
