"""The command line, `llmfs`: runs a command and tells every mistake.

Knows what the commands are called. Knows nothing of how the work is
done: other modules do it, and each is imported when a command needs it,
so that `llmfs --help` is instant. A group of commands has a module,
`cli_<group>.py`, and a line in `build_parser`.
"""

import argparse
import json
import sys
import warnings

from . import __version__, terminal
from .cli_chat import add_chat
from .cli_data import add_data
from .cli_finetune import add_finetune
from .cli_generate import add_generate
from .cli_options import Parser, UserError, add_command, help_layout
from .cli_pretrain import add_evaluate, add_pretrain
from .cli_quantize import add_quantize
from .cli_tokenizer import add_tokenizer
from .terminal import tell


def main(
    argv: list[str] | None = None,  # the command's words; None: our own
) -> int:  # 0: done, 1: doctor misses something, 2: a mistake, 130: Ctrl-C
    "Run one command and tell every mistake in one line."
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            return run(words)
    except KeyboardInterrupt:
        return tell("interrupted; no file is half-written", 130)
    except Exception as error:
        if terminal.is_closed_pipe(error):
            return terminal.drop_output()
        if "--debug" in words:
            raise
        return tell(*explain(error))


def run(words: list[str]) -> int:
    "Parse the words, run the command, and write out what it printed."
    terminal.set_up_streams()
    try:
        args, unknown = build_parser().parse_known_args(words)
        if unknown:
            args.parser.error(f"unknown arguments: {' '.join(unknown)}")
        code = args.run(args)
    except SystemExit as end:  # after --help and --version
        code = end.code
    if sys.stdout:
        sys.stdout.flush()  # a closed pipe is noticed here, or later
    return code or 0


def explain(error: Exception) -> tuple[str, int]:
    "What to tell about an error, and the exit code."
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        text = where + error.strerror
    if isinstance(error, ImportError):
        text += "; llmfs doctor says what is missing and how to get it"
    elif lacks_memory(error):
        text = (
            "not enough memory; take a smaller --preset or --model, another "
            f"--device, or close programs ({text:.150})"
        )
    elif fails_to_compile(error):
        text = (
            "torch.compile failed; if a run was stopped while it compiled, "
            f"delete {compile_cache()}, which may hold half a file; or set "
            f"TORCH_COMPILE_DISABLE=1 to go without ({text:.150})"
        )
    elif not isinstance(error, UserError | ValueError | OSError):
        text = (
            f"{type(error).__name__}: {text}; this should not happen, "
            "please report what --debug prints"
        )
        return f"internal error: {text}", 1
    return f"error: {text}", 2


def lacks_memory(error: Exception) -> bool:
    "Whether memory is full, in Python's words or in torch's."
    if isinstance(error, MemoryError):
        return True
    words = ("out of memory", "can't allocate memory")
    told = any(x in str(error) for x in words)
    return isinstance(error, RuntimeError) and told


def fails_to_compile(error: Exception) -> bool:
    "Whether torch.compile gave up; told by name, without importing torch."
    names = {kind.__name__ for kind in type(error).__mro__}
    return "TorchDynamoException" in names


def compile_cache() -> str:
    "The folder where torch keeps what it compiled."
    try:
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        return cache_dir()
    except ImportError:  # another torch
        return "the folder torchinductor_* among the temporary files"


def show_warning(message: Warning, *_, **__) -> None:
    "Print a warning as one line, too."
    tell(f"warning: {message}")


def build_parser() -> Parser:
    "All commands; each `add_…` describes one, or a group of them."
    parser = Parser(
        prog="llmfs",
        description="A large language model from raw bytes to chat.",
        epilog="Example:\n  llmfs doctor",
        formatter_class=help_layout,
        allow_abbrev=False,
    )
    version = f"llmfs {__version__}"
    parser.add_argument("--version", action="version", version=version)
    parser.set_defaults(run=lambda _: parser.print_help(), parser=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    add_doctor(commands)
    add_tokenizer(commands)
    add_data(commands)
    add_pretrain(commands)
    add_evaluate(commands)
    add_generate(commands)
    add_finetune(commands)
    add_chat(commands)
    add_quantize(commands)
    return parser


def add_doctor(commands) -> None:
    "`llmfs doctor`."
    parser = add_command(
        commands,
        "doctor",
        "say what this machine has, what is missing and how to get it",
        "llmfs doctor",
        doctor,
        "The exit code is 1 if something required is missing.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for programs"
    )


def doctor(args: argparse.Namespace) -> int:
    "Print what `doctor.examine` finds."
    from .doctor import as_data, examine, is_fit

    checks = examine()
    if args.json:
        print(json.dumps(as_data(checks), indent=2))
    else:
        print_checks(checks)
    return 0 if is_fit(checks) else 1


def print_checks(checks: list) -> None:
    "The table, and below it the commands that get what is missing."
    good, absent = terminal.pick("✓", "+"), terminal.pick("–", "-")
    group, margin = "", " " * 16
    print(f"llmfs {__version__}")
    for check in checks:
        if check.group != group:
            group = check.group
            print(f"\n{group}")
        mark = good if check.ok else "!" if check.required else absent
        start = f"  {mark} {check.name:<12}"
        for line in terminal.wrap(check.text, terminal.columns() - 16):
            print(f"{start}{line}")
            start = margin
    remedies = {check.remedy: check.name for check in reversed(checks)}
    remedies.pop("", None)
    if remedies:
        print("\nTo get what is missing")
    for remedy, name in reversed(remedies.items()):
        print(f"    {name:<12}{remedy}")
