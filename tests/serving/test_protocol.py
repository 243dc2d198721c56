import pytest

from tuneline.data.conversation import Turn
from tuneline.errors import NotFoundError, UserError
from tuneline.serving import openai_protocol, protocol
from tuneline.serving.prompts import Completion, Prompt, Sampling

SAFE = {"blocked": False, "categories": [], "scores": []}


def one(instance: object, parameters: object = None) -> Prompt:
    [parsed] = protocol.parse({"instances": [instance], "parameters": parameters})
    return parsed.prompt


def problems(body: object) -> list[str]:
    with pytest.raises(UserError) as error:
        protocol.parse(body)
    return list(error.value.problems)


def completion(text: str, tokens: int = 3) -> Completion:
    return Completion(text=text, finish_reason="stop", prompt_tokens=5, output_tokens=tokens)


@pytest.mark.parametrize("name", ["prefix", "content", "prompt"])
def test_a_single_text_is_a_user_turn_as_in_training(name: str) -> None:
    assert one({name: "def f("}).turns == (Turn("user", "def f("),)


def test_chat_messages_take_either_spelling_and_a_context() -> None:
    expected = (Turn("system", "Be brief."), Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"))
    by_author = [{"author": "user", "content": "a"}, {"author": "bot", "content": "b"}, {"author": "user", "content": "c"}]
    by_role = [{"role": "system", "content": "Be brief."}, *({"role": m["author"], "content": m["content"]} for m in by_author)]
    assert one({"messages": by_author, "context": "Be brief."}).turns == expected
    assert one({"messages": by_role}).turns == expected


def test_greedy_is_the_default_and_numbers_may_be_floats() -> None:
    assert one({"content": "a"}).sampling == Sampling()
    given = {"temperature": 1.0, "maxOutputTokens": 20.0, "topP": 0.5, "topK": 40.0, "stopSequences": ["x"]}
    assert one({"content": "a"}, given).sampling == Sampling(max_tokens=20, temperature=1.0, top_p=0.5, top_k=40, stop=("x",))


@pytest.mark.parametrize("name", ["maxOutputTokens", "maxDecodeSteps", "max_tokens"])
def test_the_longest_answer_has_three_names(name: str) -> None:
    assert one({"content": "a"}, {name: 7}).sampling.max_tokens == 7


def test_a_prompt_instance_may_bring_its_own_sampling() -> None:
    body = {
        "instances": [{"prompt": "a", "max_tokens": 5, "top_k": -1, "raw_response": True}, {"prompt": "b"}],
        "parameters": {"max_tokens": 9, "temperature": 0.5},
    }
    first, second = protocol.parse(body)
    assert (first.form, first.prompt.sampling) == ("raw prompt", Sampling(max_tokens=5, temperature=0.5))
    assert (second.form, second.prompt.sampling) == ("prompt", Sampling(max_tokens=9, temperature=0.5))


def test_a_seed_is_passed_on_and_an_instances_own_goes_first() -> None:
    assert one({"content": "a"}, {"seed": 3.0, "temperature": 0.5}).sampling == Sampling(seed=3, temperature=0.5)
    assert one({"prompt": "a", "seed": 4}, {"seed": 3}).sampling.seed == 4


EXACTLY_ONE = "expected exactly one of prefix, content, messages, prompt."
IN_TURN = "expected user and assistant in turn, user first and last, after one system at most."
ROLES = "assistant, bot, developer, model, system, user."
SEVERAL = "its 2 answers could not be told from those of others; send it alone."


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "body: found an empty list; expected an object."),
        ({}, "instances: found nothing; expected a list with at least one element."),
        ({"instances": []}, "instances: found an empty list; expected a list with at least one element."),
        ({"instances": [{"content": "a"}], "parameters": 3}, "parameters: found a number; expected an object."),
        ({"instances": [{"content": "a"}], "paramters": {}}, "paramters: unknown field. Did you mean 'parameters'?"),
        ({"instances": [{"messages": [{"role": "user", "content": "a"}]}, {"content": "a"}], "parameters": {"candidateCount": 2}}, f"instances[1]: {SEVERAL}"),
        ({"instances": [{"content": "a"}, {"prompt": "a", "n": 2}]}, f"instances[1]: {SEVERAL}"),
    ],
)
def test_what_is_wrong_with_a_body_is_named(body: object, problem: str) -> None:
    assert problems(body) == [problem]


@pytest.mark.parametrize(
    ("instance", "problem"),
    [
        (7, ": found a number; expected an object."),
        ({}, f": found nothing to answer; {EXACTLY_ONE}"),
        ({"prefix": "a", "content": "b"}, f": found prefix and content; {EXACTLY_ONE}"),
        ({"prefix": ""}, ".prefix: found an empty text; expected text that is not empty."),
        ({"prefix": "a", "suffix": "b"}, ".suffix: not supported. Models are tuned to continue a prefix."),
        ({"prefix": "a", "sufix": "b"}, ".sufix: unknown field. Did you mean 'suffix'?"),
        ({"content": "a", "max_tokens": 3}, ".max_tokens: unknown field."),
        ({"prompt": "a", "raw_response": 1}, ".raw_response: found 1; expected true or false."),
        ({"messages": []}, ".messages: found an empty list; expected a list with at least one element."),
        ({"messages": ["a"]}, ".messages[0]: found text; expected an object."),
        ({"messages": [{"author": "ai", "content": "a"}]}, f".messages[0].author: found 'ai'; expected one of {ROLES}"),
        ({"messages": [{"author": {}, "content": "a"}]}, f".messages[0].author: found an object; expected one of {ROLES}"),
        ({"messages": [{"author": ["user"], "content": "a"}]}, f".messages[0].author: found a list; expected one of {ROLES}"),
        ({"messages": [{"author": "bot", "content": "a"}]}, f".messages: found assistant; {IN_TURN}"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, f".messages: found user, system; {IN_TURN}"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, f".messages: found user, user; {IN_TURN}"),
        ({"messages": [{"role": "system", "content": "a"}], "context": "b"}, f".messages: found system, system; {IN_TURN}"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            ".messages[0].content: found parts of type image_url; expected text that is not empty.",
        ),
        ({"messages": [{"role": "user", "content": "a"}], "examples": [{}]}, ".examples: not supported. Send them as earlier messages."),
    ],
)
def test_what_is_wrong_with_an_instance_is_named(instance: object, problem: str) -> None:
    assert problems({"instances": [instance]}) == [f"instances[0]{problem}"]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"temperature": "1"}, "temperature: found '1'; expected a number from 0 to 2."),
        ({"temperature": True}, "temperature: found True; expected a number from 0 to 2."),
        ({"topP": 0}, "topP: found 0; expected a number from 1e-06 to 1."),
        ({"topK": -2}, "topK: found -2; expected a whole number from -1 up."),
        ({"maxOutputTokens": 0}, "maxOutputTokens: found 0; expected a whole number from 1 up."),
        ({"maxOutputTokens": 1.5}, "maxOutputTokens: found 1.5; expected a whole number from 1 up."),
        ({"maxOutputTokens": float("inf")}, "maxOutputTokens: found inf; expected a whole number from 1 up."),
        ({"max_tokens": 1, "maxOutputTokens": 1}, "max_tokens: means the same as 'maxOutputTokens'; give one of them."),
        ({"temprature": 1}, "temprature: unknown field. Did you mean 'temperature'?"),
        ({"stopSequences": [""]}, "stopSequences: expected a text or a list of texts, none of them empty."),
        ({"stop": ["a"] * 17}, "stop: 17 stop sequences; expected at most 16."),
        ({"candidateCount": 9}, "candidateCount: found 9; expected a whole number from 1 to 8."),
        ({"presencePenalty": 0.5}, "presencePenalty: not supported."),
    ],
)
def test_what_is_wrong_with_a_parameter_is_named(parameters: object, problem: str) -> None:
    assert problems({"instances": [{"content": "a"}], "parameters": parameters}) == [f"parameters.{problem}"]


def test_all_problems_are_reported_at_once() -> None:
    found = problems({"instances": [{"prefx": "a"}, {"content": 3}], "parameters": {"topP": 2}})
    assert [problem.partition(":")[0] for problem in found] == ["parameters.topP", "instances[0]", "instances[0].prefx", "instances[1].content"]


def test_no_error_quotes_a_text() -> None:
    secret = "canary " * 9
    found = problems(
        {"instances": [{"content": [secret]}, {"prompt": "a", "raw_response": secret}, {"messages": [{"role": "user", "content": {"x": secret}}]}]}
    )
    assert len(found) == 3
    assert secret not in "".join(found)


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_what_is_switched_off_may_be_sent(value: object) -> None:
    assert one({"prefix": "a", "suffix": value}, {"echo": value, "presencePenalty": value}).turns


def test_text_and_code_answers_are_predictions_with_safety_attributes() -> None:
    instances = protocol.parse({"instances": [{"content": "a"}, {"prefix": "b"}]})
    response = protocol.response(instances, [[completion("x")], [completion("y")]])
    assert response["predictions"] == [{"content": "x", "safetyAttributes": SAFE}, {"content": "y", "safetyAttributes": SAFE}]
    assert response["metadata"] == {"tokenMetadata": {"inputTokenCount": {"totalTokens": 10}, "outputTokenCount": {"totalTokens": 6}}}
    assert "output_token_counts" not in response


def test_several_candidates_of_a_text_are_several_predictions() -> None:
    instances = protocol.parse({"instances": [{"content": "a"}], "parameters": {"candidateCount": 2.0}})
    assert instances[0].prompt.num_answers == 2
    predictions = protocol.response(instances, [[completion("x"), completion("y")]])["predictions"]
    assert predictions == [{"content": "x", "safetyAttributes": SAFE}, {"content": "y", "safetyAttributes": SAFE}]


def test_chat_answers_are_candidates_each_with_its_safety_attributes() -> None:
    instances = protocol.parse({"instances": [{"messages": [{"author": "user", "content": "a"}]}]})
    candidates = [{"author": "bot", "content": "x"}, {"author": "bot", "content": "y"}]
    predictions = protocol.response(instances, [[completion("x"), completion("y")]])["predictions"]
    assert predictions == [{"candidates": candidates, "safetyAttributes": [SAFE, SAFE]}]


def test_prompt_answers_repeat_the_prompt_unless_they_are_raw() -> None:
    instances = protocol.parse({"instances": [{"prompt": " a \n"}, {"prompt": "b", "raw_response": True}]})
    response = protocol.response(instances, [[completion("\nx \n", 4)], [completion("\ny\n", 2)]])
    assert response["predictions"] == ["Prompt:\na\nOutput:\nx ", "\ny\n"]
    assert response["output_token_counts"] == [4, 2]


def test_a_chat_completions_request_is_found_in_the_body_or_in_its_only_instance() -> None:
    chat = {"messages": [{"role": "user", "content": "a"}]}
    marked = chat | {"@requestFormat": "chatCompletions"}
    assert protocol.chat_request(marked) == (chat, False)
    assert protocol.chat_request({"instances": [marked]}) == (chat, True)
    assert protocol.chat_request({"instances": [marked, marked]}) is None
    assert protocol.chat_request({"instances": [chat]}) is None


def chat(**fields: object) -> openai_protocol.CompletionRequest:
    return openai_protocol.parse({"messages": [{"role": "user", "content": "a"}], **fields}, "chat.completion", ["demo", "77"])


def test_an_openai_chat_request_is_read_with_what_libraries_always_send() -> None:
    asked = chat(model="77", max_completion_tokens=4, n=2, stop="x", user="me", presence_penalty=0, tools=[], response_format={"type": "text"}, logprobs=False)
    assert asked.prompts[0].num_answers == 2
    assert asked.prompts[0].sampling == Sampling(max_tokens=4, stop=("x",))
    assert asked.model == "demo"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tools": [{"type": "function"}]}, "tools: not supported."),
        ({"response_format": {"type": "json_object"}}, "response_format: not supported. Only text can be had."),
        ({"max_token": 3}, "max_token: unknown field. Did you mean 'max_tokens'?"),
        ({"stream": "yes"}, "stream: found 'yes'; expected true or false."),
        ({"stream_options": {"include_use": True}}, "stream_options.include_use: unknown field. Did you mean 'include_usage'?"),
        ({"messages": None}, "messages: found nothing; expected a list with at least one element."),
    ],
)
def test_what_an_openai_request_gets_wrong_is_named(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError) as error:
        chat(**fields)
    assert str(error.value) == problem


def test_another_models_name_is_refused_with_the_right_ones() -> None:
    with pytest.raises(NotFoundError, match="serves 'demo'"):
        chat(model="gpt-4")


def test_completions_take_one_prompt_or_several() -> None:
    asked = openai_protocol.parse({"prompt": ["a", "b"]}, "text_completion", ["demo"])
    assert [prompt.turns[0].content for prompt in asked.prompts] == ["a", "b"]
    with pytest.raises(UserError, match="prompt: missing"):
        openai_protocol.parse({}, "text_completion", ["demo"])


def test_an_openai_body_counts_each_prompt_once() -> None:
    body = chat(n=2).body("id-1", [[completion("x"), completion("y")]])
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    assert [choice["message"]["content"] for choice in body["choices"]] == ["x", "y"]  # type: ignore[attr-defined]
    assert body["object"] == "chat.completion"
