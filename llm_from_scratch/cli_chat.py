"""`llmfs finetune instruct` and `llmfs chat`: tune on dialogs, and talk.

Knows options, lines and how a result is told. Knows nothing of how
dialogs become batches or answers: `instructions` does.
"""

import argparse
import sys
from pathlib import Path

from .cli_generate import add_sampling, load
from .cli_options import Parser, UserError, add_command, add_model, whole
from .cli_pretrain import positive
from .terminal import plural, tell

EXIT = "/exit"
SEEDS = 20_000_000  # tasks of the story world have seeds from here on
TASKS = 4000  # dialogs of the story world, unless --data names others
LR = 1e-3  # of AdamW, as in the chapter; Muon's is five times as high
CARD = """# A model that was taught to answer

Tuned with `llmfs finetune instruct`: {steps} steps on {examples} examples
from {dialogs}, seed {seed}. Base: {base}. It answers in the form of what
it was tuned on, and knows no more than its base did. Talk to it with
`llmfs chat --model` and this folder.
"""


def add_instruct(commands) -> None:
    "`llmfs finetune instruct`; `commands` are those of `finetune`."
    parser = add_command(
        commands,
        "instruct",
        "teach a model to answer, from dialogs",
        "llmfs finetune instruct --minutes 5 --out my_assistant\n"
        "llmfs finetune instruct --data dialogs.jsonl --out my_assistant",
        instruct,
        "Dialogs are JSON or JSON lines: instruction, input and output, or "
        "messages with role and content. Without --data: tasks from the "
        "story world. llmfs chat --model my_assistant talks to the result.",
    )
    add_model(parser)
    parser.add_argument(
        "--data", metavar="FILE", help="dialogs, .json or .jsonl"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="of steps (default: 5)",
    )
    budget.add_argument(
        "--steps", type=whole(1), metavar="N", help="instead of minutes"
    )
    parser.add_argument(
        "--rate",
        type=positive,
        default=LR,
        metavar="X",
        help="learning rate of AdamW at its peak, Muon's is five times it "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=whole(1),
        default=8,
        metavar="N",
        help="rows of packed dialogs a step (default: %(default)s)",
    )
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="plain text to learn among the dialogs, documents ended by "
        "<|endoftext|>, so that less is forgotten",
    )
    parser.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of the order"
    )
    add_folder(parser)


def add_folder(parser: Parser) -> None:
    "Where the tuned model shall be."
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="assistant",
        help="the folder of the tuned model (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing folder"
    )


def instruct(args: argparse.Namespace) -> None:
    "Tune, save, and say what came of it."
    if Path(args.out).exists() and not args.overwrite:
        raise UserError(
            f"{args.out} exists already; add --overwrite to replace it"
        )
    from .dialogs import read_dialogs

    dialogs = read_dialogs(args.data) if args.data else None
    args.dtype = "float32"
    model, tokenizer = load(args)
    from .chat_files import save_chat_model
    from .instructions import grow
    from .quantized_files import check_trainable

    check_trainable(model, args.model)
    model, tokenizer = grow(model, tokenizer)
    loader = make_loader(args, dialogs or world_dialogs(), model, tokenizer)
    if loader.dropped:
        n = model.config.context_len
        tell(
            f"warning: {plural(loader.dropped, 'example')} longer than "
            f"context_len={n} tokens left out"
        )
    rows = tune(args, model, loader)
    told = {"steps": len(rows), "loss": rows[-1]["loss"], "seed": args.seed}
    base = args.model or "the storyteller"
    told |= {"dialogs": args.data or "the story world", "base": base}
    more = {"meta": {"instructed": told}, "overwrite": args.overwrite}
    more["card"] = CARD.format(**told, examples=len(loader.examples))
    save_chat_model(args.out, model.float(), tokenizer, **more)
    few = rows[-20:]
    loss = sum(row["loss"] for row in few) / len(few)
    print(
        f"{plural(len(rows), 'step')} on "
        f"{plural(len(loader.examples), 'example')}, loss {loss:.3f} at the "
        f"end; {args.out} is ready: llmfs chat --model {args.out}"
    )


def tune(
    args: argparse.Namespace,  # steps, minutes, rate
    model,  # trained in place
    loader,  # of dialogs
) -> list[dict]:  # one row a step
    "Muon for the matrices in blocks, AdamW for the rest."
    from functools import partial

    import torch

    from .devices import device_plan
    from .instructions import dialog_loss
    from .modern import muon_and_adamw
    from .pretraining import NotFinite, TrainConfig, train

    minutes = None if args.steps else args.minutes or 5.0
    budget = {"steps": args.steps, "minutes": minutes, "lr": args.rate}
    few = {} if args.steps and args.steps < 40 else {"warmup": 10}
    config = TrainConfig(**budget, **few, weight_decay=0.0)
    plan = device_plan()
    narrow = plan.dtype if plan.dtype == torch.bfloat16 else None
    rates = {"lr_muon": 5 * args.rate, "lr_adamw": args.rate}
    make = partial(muon_and_adamw, **rates, dtype=narrow)
    shown = bool(sys.stderr and sys.stderr.isatty())
    options = {"loss_fn": dialog_loss, "plan": plan, "progress": shown}
    try:
        return train(model, loader, config, make=make, **options)
    except NotFinite as error:
        raise UserError(
            f"{str(error).partition('. ')[0]}; nothing was written: try a "
            "lower --rate"
        ) from error


def world_dialogs() -> list:
    "A story that was wished for, or is given, and two questions about it."
    from .instructions import question_task
    from .stories import StoryWorld

    world, seeds = StoryWorld(), range(SEEDS, SEEDS + TASKS)
    how = [{"told": seed % 4 > 0, "count": 2} for seed in seeds]
    pairs = zip(seeds, how, strict=True)
    return [question_task(world, seed, **x).dialog for seed, x in pairs]


def make_loader(
    args: argparse.Namespace,  # replay, batch, seed
    dialogs: list,  # checked
    model,  # with a `config`
    tokenizer,  # with the markers
):
    "Dialogs and, if asked for, plain text, packed together."
    from .data import read_stories
    from .instructions import DialogLoader, encode_dialog, encode_text

    examples = [encode_dialog(tokenizer, x) for x in dialogs]
    if args.replay:
        texts = read_stories(args.replay)
        examples += [encode_text(tokenizer, text) for text in texts]
    length = model.config.context_len
    return DialogLoader(examples, args.batch, length, seed=args.seed)


def add_chat(commands) -> None:
    "`llmfs chat`."
    parser = add_command(
        commands,
        "chat",
        "talk to a model that was taught to answer",
        "llmfs chat --model my_assistant",
        chat,
        f"One message a line, until {EXIT} or the end of the input. When the "
        "context is full, the oldest turns are forgotten.",
    )
    add_model(parser)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "stored"),
        help="how precisely to compute (default: as llmfs generate)",
    )
    parser.add_argument(
        "--system", metavar="TEXT", help="what the model is told beforehand"
    )
    parser.add_argument(
        "--max-tokens",
        type=whole(1),
        default=300,
        metavar="N",
        help="of an answer, at most (default: %(default)s)",
    )
    add_sampling(parser)


def chat(args: argparse.Namespace) -> None:
    "Read a message, write the answer as it comes, and again."
    import torch

    from .decoding import Decoder
    from .generation import Sampling
    from .instructions import STOP

    if args.system is not None and not args.system.strip():
        raise UserError("--system is empty; leave it out")
    options = ("temperature", "top_k", "top_p", "repetition_penalty")
    options = {name: getattr(args, name) for name in options}
    sampling = Sampling(greedy=args.greedy, **options)
    model, tokenizer = load(args)
    if STOP not in tokenizer.special_tokens:
        name = args.model or "the storyteller"
        raise UserError(
            f"{name} was never taught to answer: it has no {STOP}. Tune it "
            "with llmfs finetune instruct, or use llmfs generate"
        )
    random = torch.Generator()
    seed = random.seed() if args.seed is None else args.seed
    random.manual_seed(seed % 2**63)
    system = {"role": "system", "content": args.system}
    messages = [system] if args.system else []
    who = Decoder(model), tokenizer
    how = {"sampling": sampling, "generator": random}
    for line in read_lines():
        asked = [*messages, {"role": "user", "content": line}]
        messages = reply(who, asked, args.max_tokens, how)


def reply(
    who: tuple,  # model, tokenizer
    messages: list,  # ends with the user
    max_tokens: int,  # of the answer
    how: dict,  # sampling, generator
) -> list:  # the dialog, with the answer
    "Write an answer; an error leaves the dialog as it was."
    from .instructions import answer

    model, tokenizer = who
    limit = model.config.context_len
    room = min(max_tokens, limit // 2)
    try:
        messages = shorten(tokenizer, messages, limit, room)
    except ValueError as error:
        tell(f"error: {error}")
        return messages[:-1]
    told = ""
    options = {"max_tokens": max_tokens, **how}
    for piece in answer(model, tokenizer, messages, **options):
        print(piece, end="", flush=True)
        told += piece
    print(flush=True)
    if not told.strip():
        return messages[:-1]
    return [*messages, {"role": "assistant", "content": told.strip()}]


def read_lines():
    "Messages from the terminal or a pipe; empty lines are passed over."
    if not sys.stdin:
        raise UserError("there is no standard input to read messages from")
    asks = sys.stdin.isatty()
    if asks:
        tell(f"one message a line; {EXIT} ends")
    while True:
        if asks:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() == EXIT:
            return
        if line.strip():
            yield line.strip()


def shorten(
    tokenizer,  # with the markers
    messages: list,  # ends with the user
    context_len: int,  # of the model, in tokens
    room: int,  # tokens to leave for the answer
) -> list:  # the same, perhaps without its oldest turns
    """Forget a question and its answer at a time, never the system message.

    Raises `ValueError` if the last message alone is too long.
    """
    from .instructions import prompt_ids

    first = int(messages[0]["role"] == "system")
    while (n := len(prompt_ids(tokenizer, messages))) + room > context_len:
        if len(messages) <= first + 1:
            if n < context_len - 1:  # a short answer may do
                return messages
            raise ValueError(
                f"the message makes {n} tokens and leaves no room for an "
                f"answer, context_len={context_len}: say it in fewer words"
            )
        messages = messages[:first] + messages[first + 2 :]
    return messages
