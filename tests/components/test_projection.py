"""`taking` changes nothing in a template: it equals the one whose arguments are written out."""

from pathlib import Path

import pytest
from kfp import dsl
from kfp.compiler import Compiler

from tuneline.interface import part, taking
from tuneline.parameters import TuneModel


def text_of(component: object, folder: Path) -> str:
    file = folder / "compiled.yaml"
    Compiler().compile(component, str(file))
    return file.read_text(encoding="utf-8")


def container(**values: object) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="image:1", command=["run"], args=[text for item in values.items() for text in item])


def written_out() -> object:
    @dsl.container_component
    def tune(
        fingerprint: str,
        dataset: dsl.Input[dsl.Dataset],
        history: dsl.Output[dsl.Metrics],
        train_steps: int = 300,
        learning_rate: float = -1.0,
        learning_rate_multiplier: float = 1.0,
        evaluation_interval: int = 20,
        enable_early_stopping: bool = True,
        seed: int = 0,
    ) -> dsl.ContainerSpec:
        """Tune it.

        Args:
            train_steps: Number of optimizer steps. Epochs = train_steps x batch size / examples.
            learning_rate: Absolute learning rate; -1 takes the rate recommended for the base model. Deprecated in favour of the multiplier.
            learning_rate_multiplier: Scales the learning rate recommended for the base model.
            evaluation_interval: Steps between two evaluations. Needs evaluation_data_uri.
            enable_early_stopping: Stop before train_steps when token accuracy no longer improves between evaluations. Needs evaluation_data_uri.
            seed: Seed of the example order. The same seed on the same machine gives the same weights. Ours.
            fingerprint: Of the data.

        Returns:
            history: Metrics.
        """
        return container(
            train_steps=train_steps,
            learning_rate=learning_rate,
            learning_rate_multiplier=learning_rate_multiplier,
            evaluation_interval=evaluation_interval,
            enable_early_stopping=enable_early_stopping,
            seed=seed,
            fingerprint=fingerprint,
            dataset=dataset.path,
            history=history.path,
        )

    return tune


def projected() -> object:
    @dsl.container_component
    @taking(TuneModel)
    def tune(parameters: TuneModel, fingerprint: str, dataset: dsl.Input[dsl.Dataset], history: dsl.Output[dsl.Metrics]) -> dsl.ContainerSpec:
        """Tune it.

        Args:
            fingerprint: Of the data.

        Returns:
            history: Metrics.
        """
        return container(**part(TuneModel, parameters), fingerprint=fingerprint, dataset=dataset.path, history=history.path)

    return tune


def test_projected_component_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    assert text_of(projected(), tmp_path) == text_of(written_out(), tmp_path)


def test_a_misspelled_parameter_fails_when_the_pipeline_is_compiled() -> None:
    with pytest.raises(TypeError, match="trian_steps"):

        @dsl.pipeline(name="misspelled")
        def pipeline() -> None:
            projected()(trian_steps=3, fingerprint="x")
