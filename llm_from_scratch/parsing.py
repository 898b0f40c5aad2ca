"""Finding out how a grammar told a story, and what is wrong with it.

Knows rules, roles and sentences. Knows nothing of plots, children or
models.
"""

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import accumulate, count
from typing import Any, NamedTuple

from llm_from_scratch.grammar import (
    CLOSED,
    GAP,
    SENTENCE,
    STOP,
    Draw,
    Entity,
    Grammar,
    Mention,
    Option,
    Rule,
    Tag,
    Telling,
    flatten,
)

FOREIGN = {"extra", "repeated", "order", "wording"}
MOST = 300_000  # states that a search looks at before it gives up


def find_tellings(
    grammar: Grammar,  # the world
    story: str,  # a text
) -> list[Telling]:  # every way in which the world tells exactly this
    "Recover how a story was told. Raises `ValueError` if it never is."
    search = Search(grammar, story)
    ways = [grammar.retell(unlink(p.steps), p.roles) for p in search]
    if told := [way for way in ways if way.text == story]:
        return told
    number = bisect(search.places, search.reached) - 1
    sentence = search.sentences[min(number, len(search.sentences) - 1)]
    raise ValueError(
        f"this world does not tell such a story: sentence {number + 1}, "
        f"{sentence[:60]!r}, cannot follow what stands before it"
    )


def find_faults(
    grammar: Grammar,  # the world
    story: str,  # a text that tries to be a story of that world
) -> list["Fault"]:  # in order; none if the world could have told it
    """Find the fewest changes that separate a story from the world's.

    Raises `ValueError` when over half of the sentences are foreign, since
    the faults of another world's story mean nothing.
    """
    search = Search(grammar, story, tolerant=True)
    for path in search:
        faults = name_faults(unlink(path.faults), search.sentences)
        if not faults:
            told = grammar.retell(unlink(path.steps), path.roles).text
            faults = [Fault("spelling", *first_difference(story, told))]
            return faults if told != story else []
        foreign = sum(x.kind in FOREIGN for x in faults)
        if 2 * foreign <= len(search.sentences):
            return faults
        break
    raise ValueError(
        f"{story[:40]!r}… is no story of this world: most of its sentences "
        "are foreign to it, so it cannot be judged"
    )


def unlink(link: tuple | None) -> list:
    "The values of a linked list, the first one first."
    values = []
    while link:
        value, link = link
        values.append(value)
    return values[::-1]


def first_difference(story: str, told: str) -> tuple[int, str, str]:
    "Where capitals or *a* and *an* differ: sentence, found, expected."
    pairs = zip(SENTENCE.split(story), SENTENCE.split(told), strict=False)
    for number, (found, expected) in enumerate(pairs):
        if found != expected:
            return number, found, expected
    return 0, story, told


class Fault(NamedTuple):
    "A place where a story is not what its world would tell."

    kind: str  # name, pronoun, order, missing, repeated, wording …
    sentence: int  # its number, from 0
    found: str  # what stands there
    expected: str  # what should stand there, if known


def begin(grammar: Grammar, rule: Rule, character: str) -> list[Option]:
    "The options of a rule whose text can begin with a character."
    if rule.starts is None:
        firsts = [(first(grammar, o.flat), o) for o in rule.options]
        every = {c for characters, _ in firsts for c in characters}
        rule.starts = {
            c: [o for able, o in firsts if c in able or "" in able]
            for c in every | {""}
        }
    return rule.starts.get(character, rule.starts[""])


def first(grammar: Grammar, parts: tuple) -> set[str]:
    "The characters that these parts can begin with; '' if with none."
    found = set()
    for part in parts:
        kind = type(part)
        if kind is str or part is GAP:
            return found | {" " if part is GAP else part[0]}
        if kind in (Draw, Tag):
            continue
        if kind is Rule:
            texts = [option.flat for option in part.options]
        elif part.form:
            able = grammar.roles[part.role]
            texts = [(e.forms[part.form],) for e in able if e.forms]
        else:
            texts = [(e.flat,) for e in grammar.roles[part.role]]
        new = set().union(*(first(grammar, x) for x in texts))
        found |= new - {""}
        if "" not in new:
            return found
    return found | {""}


@dataclass(slots=True)
class Path:
    "How far a search has come on one of its ways."

    cost: float  # of the faults
    place: int  # in the text
    stack: tuple | None  # parts that must follow: (part, the others)
    roles: dict  # role → Entity, or Draw while nothing has named it
    steps: tuple | None = None  # options taken: (the last, the others)
    faults: tuple | None = None  # in the same way


class Search:
    """A search for the ways in which a grammar can tell a story.

    It follows the text from left to right and keeps what must still come
    on a stack. If `tolerant`, it also follows stories with faults: a wrong
    name or form costs 1, a sentence too many or missing costs 1, a
    sentence in other words 1.5. The cheapest way comes first.
    """

    def __init__(
        self, grammar: Grammar, story: str, *, tolerant: bool = False
    ):
        self.grammar, self.tolerant = grammar, tolerant
        self.sentences = SENTENCE.split(story)
        flat = [flatten(sentence) for sentence in self.sentences]
        self.text = " " + " ".join(flat) + " "
        places = accumulate((len(x) + 1 for x in flat), initial=0)
        self.places = list(places)  # of the spaces around the sentences
        self.number = {place: i for i, place in enumerate(self.places)}
        self.reached = 0  # the furthest place in the text
        self.cells: dict[tuple, tuple] = {}
        self.seen: set[tuple] = set()
        self.agenda: list[tuple] = []
        self.serial = count()

    def cell(self, parts: tuple, rest: tuple | None) -> tuple | None:
        "Put parts on a stack; the same ones always give the same object."
        for part in reversed(parts):
            rest = self.cells.setdefault((id(part), id(rest)), (part, rest))
        return rest

    def push(self, path: Path, **changes: Any) -> None:
        "Look later at a path that differs from this one."
        path = replace(path, **changes)
        key = path.cost, -path.place, next(self.serial)
        heappush(self.agenda, (*key, path))

    def __iter__(self) -> Iterator[Path]:
        "The ways to tell the story, those with the fewest faults first."
        stack = self.cell((GAP, self.grammar.start, GAP, STOP), None)
        self.push(Path(0.0, 0, stack, {}))
        for _ in range(MOST):
            if not self.agenda:
                return
            path = heappop(self.agenda)[-1]
            if self.follow(path):
                yield path
            self.reached = max(self.reached, path.place)

    def follow(self, path: Path) -> bool:
        "Go on until the text and the grammar differ, or both have ended."
        while True:
            part, rest = path.stack
            kind = type(part)
            if kind is str:
                if not self.text.startswith(part, path.place):
                    return False
                path.place, path.stack = path.place + len(part), rest
            elif kind is Rule:
                letter = self.text[path.place : path.place + 1]
                options = begin(self.grammar, part, letter)
                if not options:
                    return False
                for option in options[1:]:
                    steps, stack = (option, path.steps), (option.flat, rest)
                    self.push(path, steps=steps, stack=self.cell(*stack))
                path.steps = options[0], path.steps
                path.stack = self.cell(options[0].flat, rest)
            elif kind is Mention:
                if not self.mention(path, part, rest):
                    return False
            elif part is GAP:
                if self.tolerant and not self.repair(path, rest):
                    return False
                if self.text[path.place : path.place + 1] != " ":
                    return False
                path.place, path.stack = path.place + 1, rest
            elif part is STOP:
                return path.place == len(self.text)
            else:
                if kind is Draw:
                    path.roles = {**path.roles, part.role: part}
                path.stack = rest

    def mention(self, path: Path, part: Mention, rest: tuple) -> bool:
        "Follow an entity or its form; False if the path ends or forks."
        who = path.roles[part.role]
        if self.tolerant:
            self.mistake(path, part, rest)
        if type(who) is Entity:
            told = who.forms[part.form] if part.form else who.flat
            path.stack = self.cell((told,), rest)
            return True
        playing = path.roles.values()
        for entity in who.entities:
            told = entity.forms[part.form] if part.form else entity.flat
            if entity in playing or not (
                part.form or self.text.startswith(told, path.place)
            ):
                continue
            roles = {**path.roles, part.role: entity}
            self.push(path, roles=roles, stack=self.cell((told,), rest))
        return False

    def mistake(self, path: Path, part: Mention, rest: tuple) -> None:
        "Fork where the text has another entity, or another form."
        who = path.roles[part.role]
        able = self.grammar.roles[part.role]
        if part.form and type(who) is Entity:
            right = fixed(who, part.form)
            for form in {fixed(e, part.form) for e in able} - {right, None}:
                if right and self.text.startswith(form, path.place):
                    self.fault(path, "pronoun", form, right, rest, path.roles)
        if part.form:
            return
        for other in able:
            if other is who or not self.text.startswith(
                other.flat, path.place
            ):
                continue
            kind = "name" if "he" in other.forms else part.role.lower()
            meant = [who] if type(who) is Entity else who.entities
            for entity in meant:
                roles = {**path.roles, part.role: entity}
                if entity is who or (
                    entity not in (other, *path.roles.values())
                    and entity.flat in self.text
                ):
                    self.fault(
                        path, kind, other.flat, entity.flat, rest, roles
                    )

    def fault(self, path, kind, found, right, rest, roles) -> None:
        "Fork with a fault: `found` stands where `right` should."
        number = bisect(self.places, path.place) - 1
        self.push(
            path,
            cost=path.cost + 1,
            place=path.place + len(found),
            stack=rest,
            roles=roles,
            faults=(Fault(kind, number, found, right), path.faults),
        )

    def repair(self, path: Path, rest: tuple) -> bool:
        "Fork between sentences: one too many, missing, or in other words."
        number = self.number.get(path.place)
        if number is None:
            return True
        key = path.place, id(path.stack), frozenset(path.roles.items())
        if key in self.seen:
            return False
        self.seen.add(key)
        left = self.sentences[number:]
        ends = rest[0] is STOP

        def fork(kind: str, cost: float, **changes: Any) -> None:
            found = left[0] if left and kind != "missing" else ""
            faults = Fault(kind, number, found, ""), path.faults
            self.push(path, cost=path.cost + cost, faults=faults, **changes)

        if not ends and (not left or (left[1:] == [] and not whole(left[0]))):
            stop = self.cell((STOP,), None)
            fork("unfinished", 1, place=len(self.text), stack=stop)
        if left:
            fork("extra", 1, place=self.places[number + 1])
        for others, roles in self.skip(rest, path.roles):
            stack = self.cell((GAP,), others)
            fork("missing", 1, stack=stack, roles=roles)
            if left:
                place = self.places[number + 1]
                fork("wording", 1.5, place=place, stack=stack, roles=roles)
        return True

    def skip(self, stack: tuple, roles: dict) -> list[tuple]:
        "What can follow the sentence that begins here: stacks and roles."
        found, seen, todo = {}, set(), [(stack, roles)]
        while todo:
            stack, roles = todo.pop()
            if id(stack) in seen:
                continue
            seen.add(id(stack))
            part, rest = stack
            if part is GAP:
                found[id(rest)] = rest, roles
            elif type(part) is Rule:
                cells = (self.cell(o.flat, rest) for o in part.options)
                todo += [(cell, roles) for cell in cells]
            elif part is not STOP:
                if type(part) is Draw:
                    roles = {**roles, part.role: part}
                todo.append((rest, roles))
        return list(found.values())


def whole(sentence: str) -> bool:
    "Does this sentence have an end?"
    return CLOSED.search(sentence) is not None


def fixed(entity: Entity, form: str) -> str | None:
    "A form of an entity, if it is always the same."
    rule = entity.forms.get(form)
    parts = rule.options[0].flat if rule and len(rule.options) == 1 else ()
    return parts[0] if len(parts) == 1 and type(parts[0]) is str else None


def name_faults(
    faults: list[Fault],  # of a story, in order
    sentences: list[str],  # of the story
) -> list[Fault]:  # the same, a repetition and a wrong order called so
    "Give faults their names: what is too many here may be missing there."
    named = []
    missing = [x for x in faults if x.kind == "missing"]
    for fault in faults:
        kind = fault.kind
        if kind == "extra" and fault.found in sentences[: fault.sentence]:
            kind = "repeated"
        elif kind == "extra" and missing:
            missing.pop()
            kind = "order"
        named.append(fault._replace(kind=kind))
    spare = len(missing)
    if not any(x.kind == "order" for x in named):
        return named
    others = [x for x in named if x.kind != "missing"]
    return others + [x for x in named if x.kind == "missing"][:spare]
