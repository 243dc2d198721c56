"""A machine without torch is told so before any task starts."""

import pytest

from tuneline.errors import UserError
from tuneline.local.extras import check_extras, is_installed
from tuneline.templates import load


def test_all_missing_modules_are_named_at_once_with_what_to_do() -> None:
    with pytest.raises(UserError, match="torch, transformers, tensorboard, sacrebleu, rouge_score, which") as error:
        check_extras(load("tune-large-model"), {"deploy_model": False}, installed=lambda _module: False)
    assert "tuneline[tune,serve]" in error.value.next_action


def test_a_server_is_only_needed_to_deploy() -> None:
    installed = {"torch", "transformers", "tensorboard", "sacrebleu", "rouge_score"}.__contains__
    check_extras(load("tune-large-model"), {"deploy_model": False}, installed=installed)
    with pytest.raises(UserError, match="need fastapi, uvicorn"):
        check_extras(load("tune-large-model"), {"deploy_model": True}, installed=installed)


def test_steps_in_containers_need_nothing_here_but_an_endpoint_does() -> None:
    check_extras(load("tune-large-model"), {"deploy_model": "false"}, installed=lambda _module: False, in_containers=True)
    with pytest.raises(UserError, match="serves its model from this machine, and that needs torch"):
        check_extras(load("tune-large-model"), {"deploy_model": "true"}, installed=lambda _module: False, in_containers=True)


def test_a_template_without_our_heavy_steps_needs_nothing() -> None:
    check_extras(load("tune-large-model").__class__(name="other", spec={"root": {}}, inputs={}), {}, installed=lambda _module: False)


def test_a_module_of_a_package_that_is_not_there_is_not_installed() -> None:
    assert [is_installed(name) for name in ("json", "no_such_package", "no_such_package.part")] == [True, False, False]
