"""Vision-language models: the processor, and rows of rendered text and image files.

The pixels are read when a batch is collated: by TRL's collators, which tokenise the prompt and each answer separately
and train on the answer only, or by the one in `stages/pairs/images`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import TrainConfig
from ...errors import UserError
from ..formats import images
from ..formats.turns import FormatError, Message, Record, Tools, Turns
from .answers import answer_start
from .chat_template import FALLBACK_CHAT_TEMPLATE, refuse_lost, render
from .tokens import Encoded


def load_processor(job: TrainConfig, tokenizer: Any) -> Any:
    """The processor of a vision-language model, with this tokenizer in it; None if model or stage take no images.

    Raises UserError if the processor cannot be loaded.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if job.stage not in images.STAGES:
        return None
    try:
        config = AutoConfig.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
        if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            return None
        auto: Any = AutoProcessor
        processor = auto.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"model: {job.model}: no processor could be loaded: {reason}") from error
    if not hasattr(processor, "image_processor"):  # trained on text only: saved without image processor
        return None
    if tokenizer.chat_template == FALLBACK_CHAT_TEMPLATE and processor.chat_template:
        tokenizer.chat_template = processor.chat_template  # older models have it in the processor only
    processor.tokenizer = tokenizer
    return processor


def encoder(job: TrainConfig, stage: Any, tokenizer: Any, processor: Any, args: Any) -> Callable[[Record], Encoded]:
    """The stage's encoder, which hands records with images to its `image_encoder`."""
    with_text = stage.encoder(tokenizer, args)
    with_images = stage.image_encoder(processor, args) if processor else None

    def encode_record(record: Record) -> Encoded:
        if not record.get("images"):
            return with_text(record)  # type: ignore[no-any-return]
        if with_images is None:
            raise FormatError(f"`images`: the model {job.model} takes none: it is no vision-language model")
        refuse_arguments(processor, args)
        return with_images(record)  # type: ignore[no-any-return]

    return encode_record


def refuse_arguments(processor: Any, args: Any) -> None:
    """Raise UserError for a training argument, or a processor, that does not work with images."""
    for name in ("packing", "padding_free", "precompute_ref_log_probs", "pad_to_multiple_of"):
        if getattr(args, name, None):
            raise UserError(f"train.{name}: {getattr(args, name)}: not possible with images. Remove it from the job.")
    if args.max_length is not None and getattr(args, "truncation_mode", "keep_start") != "keep_start":
        raise UserError(
            f"train.truncation_mode: {args.truncation_mode}: would cut images off. Use `keep_start`, or `max_length: "
            "null`."
        )
    if not hasattr(processor, "_get_num_multimodal_tokens"):
        raise UserError(
            f"model: {type(processor).__name__} cannot tell how many tokens an image is; use another model."
        )
    if not processor.chat_template:
        raise UserError("model: its processor has no chat template. Add a chat_template.jinja that places images.")


def sees(train: Any, evaluation: Any) -> bool:
    """Whether the rows have images. Raises UserError unless training and evaluation agree."""
    found = {"images" in rows.column_names for rows in (train, evaluation) if rows is not None}
    if len(found) > 1:
        raise UserError("data: only one of data.train and data.validation has images.", everywhere=True)
    return found.pop()


def with_paths(rows: Any) -> Any:
    """Rows whose `images` are {path, bytes} instead of decoded pixels; rows without images as they are."""
    import datasets  # type: ignore[import-untyped]

    if "images" not in rows.column_names:
        return rows
    return rows.cast_column("images", datasets.List(datasets.Image(decode=False)))


def pictures(rows: Any) -> Iterator[Path]:
    """The image files that the rows name, each once; none if the rows have no images."""
    if "images" in rows.column_names:
        yield from sorted({Path(image["path"]) for shown in with_paths(rows)["images"] for image in shown})


def placeholders(reader: Any) -> list[str]:
    """The processor's placeholder tokens of images, video and audio, which are never read as text."""
    return list(getattr(reader, "all_special_multimodal_tokens", []))


def tokenised(processor: Any, texts: list[str], shown: list[Any], *, padding_side: str) -> dict[str, Any]:
    """The model's inputs for texts and the images of each, with each image's placeholder expanded to all its tokens."""
    found = processor(
        text=texts,
        images=shown,
        padding=True,
        padding_side=padding_side,
        add_special_tokens=False,  # the template wrote them
        return_tensors="pt",
    )
    return dict(found)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, the part of it before the answer (prompt), and the image files in that part.

    Lengths are in tokens, each image counted as the number of tokens that the model sees.
    """

    text: str
    prompt: str
    images: list[str]
    length: int
    prompt_length: int


def conversation(record: Record, prompt: Turns, completion: Turns) -> list[Message]:
    """Prompt and completion of a record with images as one conversation, each image in its place."""
    if isinstance(prompt, str) or isinstance(completion, str):
        raise FormatError("with `images` a record must be a conversation (lists of messages, or question and answers)")
    return images.placed([*prompt, *completion], len(record["images"]))


def rendered(
    processor: Any, messages: list[Message], answer: int, files: list[str], tools: Tools | None = None
) -> Rendered:
    """Render a conversation, and separately what comes before the message at `answer`.

    Raises FormatError if an image cannot be opened or comes after the beginning of the answer, or a tool answers there.
    """
    if any(turn["role"] == "tool" for turn in messages[answer:]):
        raise FormatError("with `images` no tool may answer after the answer begins: TRL would train on its result")
    text = render(processor, messages, tools)
    prompt = text[: answer_start(processor, messages, answer, text, tools)]
    for turn in messages:
        refuse_lost(turn, text)
    shown = files[: images.images_in(messages)]
    if images.images_in(messages[:answer]) != len(shown):
        raise FormatError("an image comes after the first answer; TRL requires all of them in the prompt")
    # The template writes one placeholder for each image; the processor expands it to all tokens of the image.
    pixels = sum(_image_tokens(processor, shown)) - len(shown)
    length, before = (len(processor.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (text, prompt))
    return Rendered(text, prompt, shown, length + pixels, before + pixels)


def _image_tokens(processor: Any, files: list[str]) -> list[int]:
    """The number of tokens of each image, from its size in pixels alone."""
    from PIL import Image

    sizes = []
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.append((image.height, image.width))
        except OSError as error:
            raise FormatError(f"`images`: {file}: cannot be opened: {error.strerror or 'no image format'}") from error
    return list(processor._get_num_multimodal_tokens(image_sizes=sizes).num_image_tokens)
