"""Train the byte-level BPE tokenizer of the embedded base model on its training corpus.

python -m pretraining.tokenizer --out FOLDER
"""

import argparse
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pretraining.corpus import training_sources

VOCABULARY = 8_192
CONTROL_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end_of_turn|>")
# A line break keeps the indentation that follows it, so that a level of Python's blocks is one token.
PATTERN = r"[\r\n]+[ \t]*|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|[ \t]+"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|end_of_turn|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|end_of_turn|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def train() -> Tokenizer:
    """A tokenizer with `VOCABULARY` tokens, the control tokens first."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(CONTROL_TOKENS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((source for _, source in training_sources()), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, out: Path) -> None:
    """Write the tokenizer with its special tokens and chat template, as transformers reads them."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_turn|>", pad_token="<|pad|>", model_max_length=1024
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    save(train(), parser.parse_args().out)
