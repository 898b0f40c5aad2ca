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

SKIP = Tag("skip", "")  # where a search leaves a sentence out
FOREIGN = {"extra", "repeated", "order", "wording"}
MOST = 300_000  # paths that a search looks at before it gives up
MOST_FAULTY = 30_000  # the same for a search that tolerates faults


def find_tellings(
    grammar: Grammar,  # the world
    story: str,  # a text
) -> list[Telling]:  # every way in which the world tells exactly this
    "Recover how a story was told. Raises `ValueError` if it never is."
    search = Search(grammar, story)
    ways = list(search.tellings())
    if told := [way for way in ways if way.text == search.story]:
        return told
    number = bisect(search.places, search.reached) - 1
    if ways or number >= len(search.sentences):
        number, problem = len(search.sentences) - 1, "must not be the last"
        if ways:
            told = ways[0].text
            number, _, right = first_difference(search.story, told)
            problem = f"must read {right[:60]!r}"
    else:
        problem = "cannot follow what stands before it"
    raise ValueError(
        f"this world does not tell such a story: sentence {number + 1}, "
        f"{search.sentences[number][:60]!r}, {problem}"
    )


def find_faults(
    grammar: Grammar,  # the world
    story: str,  # a text that tries to be a story of that world
) -> list["Fault"]:  # in order; none if the world could have told it
    """Find the fewest changes that separate a story from the world's.

    Raises `ValueError` when over half of the sentences are foreign, since
    the faults of another world's story mean nothing.
    """
    search = Search(grammar, story)
    if any(way.text == search.story for way in search.tellings()):
        return []
    search = Search(grammar, story, tolerant=True)
    for path in search:
        faults = [with_name(x, path.roles) for x in unlink(path.faults)]
        faults = name_faults(faults, search.sentences)
        if not faults:
            told = grammar.retell(unlink(path.steps), path.roles).text
            return [Fault("spelling", *first_difference(search.story, told))]
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
    name or form and a missing sentence cost 1, a sentence too many 1.1, a
    sentence in other words 1.5. The cheapest way comes first.
    """

    def __init__(
        self, grammar: Grammar, story: str, *, tolerant: bool = False
    ):
        if not isinstance(story, str):
            raise TypeError(f"{story=!r:.40} must be a text")
        self.grammar, self.tolerant = grammar, tolerant
        self.story = story.strip()
        self.sentences = SENTENCE.split(self.story)
        flat = [flatten(sentence) for sentence in self.sentences]
        self.text = " " + " ".join(flat) + " "
        places = accumulate((len(x) + 1 for x in flat), initial=0)
        self.places = list(places)  # of the spaces around the sentences
        self.number = {place: i for i, place in enumerate(self.places)}
        self.reached = 0  # the furthest place in the text
        self.cells: dict[tuple, tuple] = {}
        self.draws: dict[tuple, Draw] = {}  # of fewer entities
        self.following: dict[int, list] = {}  # id of a stack → `skip`
        self.seen: set[tuple] = set()
        self.agenda: list[tuple] = []
        self.serial = count()

    def cell(self, parts: tuple, rest: tuple | None) -> tuple | None:
        """Put parts on a stack.

        If `tolerant`, the same parts always give the same object.
        """
        for part in reversed(parts):
            cell = part, rest
            if self.tolerant:
                cell = self.cells.setdefault((id(part), id(rest)), cell)
            rest = cell
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
        for _ in range(MOST_FAULTY if self.tolerant else MOST):
            if not self.agenda:
                return
            path = heappop(self.agenda)[-1]
            if self.follow(path):
                yield path
            self.reached = max(self.reached, path.place)

    def tellings(self) -> Iterator[Telling]:
        "What the grammar tells in these ways; capitals may differ."
        for path in self:
            yield self.grammar.retell(unlink(path.steps), path.roles)

    def follow(self, path: Path) -> bool:
        "Go on until the text and the grammar differ, or both have ended."
        while True:
            part, rest = path.stack
            kind = type(part)
            if kind is str:
                if not self.text.startswith(part, path.place):
                    self.break_off(path, part)
                    return False
                path.place, path.stack = path.place + len(part), rest
            elif kind is Rule:
                options = self.options(path, part)
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
            elif part is SKIP:
                self.leave_out(path, rest)
                return False
            else:
                if kind is Draw:
                    path.roles = {**path.roles, part.role: part}
                path.stack = rest

    def options(self, path: Path, rule: Rule) -> list[Option]:
        "The options of a rule that do not contradict the text at once."
        letter = self.text[path.place : path.place + 1]
        options, able = begin(self.grammar, rule, letter), []
        for option in options:
            told = option.flat[0] if option.flat else ""
            if type(told) is not str or self.text.startswith(told, path.place):
                able.append(option)
            elif self.tolerant:
                self.break_off(path, told)
        if not options:
            self.break_off(path, "")
        return able

    def mention(self, path: Path, part: Mention, rest: tuple) -> bool:
        "Follow an entity or its form; False if the path ends or forks."
        who = path.roles[part.role]
        if self.tolerant:
            self.mistake(path, part, rest)
        if type(who) is Entity:
            told = who.forms[part.form] if part.form else who.flat
            path.stack = self.cell((told,), rest)
            return True
        if part.form and self.tolerant:
            return self.fork_by_form(path, part, rest)
        playing = path.roles.values()
        for entity in who.entities:
            told = entity.forms[part.form] if part.form else entity.flat
            if not part.form and not self.text.startswith(told, path.place):
                if self.tolerant:
                    self.break_off(path, told)
            elif entity not in playing:
                roles = {**path.roles, part.role: entity}
                self.push(path, roles=roles, stack=self.cell((told,), rest))
        return False

    def fork_by_form(self, path: Path, part: Mention, rest: tuple) -> bool:
        "Fork for a form of who is not named yet: who may it be after that?"
        who = path.roles[part.role]
        able: dict[int, list[Entity]] = {}
        for entity in who.entities:
            if part.form in entity.forms:
                able.setdefault(id(entity.forms[part.form]), []).append(entity)
        for key, entities in able.items():
            fewer = Draw(part.role, tuple(entities))
            fewer = self.draws.setdefault((id(who), key), fewer)
            told = entities[0].forms[part.form]
            roles = {**path.roles, part.role: fewer}
            self.push(path, roles=roles, stack=self.cell((told,), rest))
        return False

    def break_off(self, path: Path, part: str) -> None:
        "Fork where the text ends in the middle of a sentence, or of `part`."
        left = len(self.text) - 1 - path.place
        if not self.tolerant or left > len(part):
            return
        if part.startswith(self.text[path.place : -1]):
            self.unfinished(path, len(self.sentences) - 1)

    def unfinished(self, path: Path, number: int) -> None:
        "Fork to the end. Who swapped two sentences may lack just the last."
        found = self.sentences[number] if number < len(self.sentences) else ""
        self.push(
            path,
            cost=path.cost + (1.1 if path.faults else 1),
            place=len(self.text),
            stack=self.cell((STOP,), None),
            faults=(Fault("unfinished", number, found, ""), path.faults),
        )

    def mistake(self, path: Path, part: Mention, rest: tuple) -> None:
        "Fork where the text has another entity, or another form."
        who = path.roles[part.role]
        able = self.grammar.roles[part.role]
        if part.form and type(who) is Entity:
            right = fixed(who, part.form)
            for form in {fixed(e, part.form) for e in able} - {right, None}:
                if right and self.text.startswith(form, path.place):
                    place = path.place + len(form)
                    self.fault(path, rest, place, "pronoun", form, right)
        if part.form:
            return
        for other in able:
            if other is not who and self.text.startswith(
                other.flat, path.place
            ):
                kind = "name" if "he" in other.forms else part.role.lower()
                place = path.place + len(other.flat)
                self.fault(path, rest, place, kind, other.text, part.role)

    def fault(self, path, rest, place, kind, found, right) -> None:
        "Fork with a fault: `found` stands where `right` should."
        number = bisect(self.places, path.place) - 1
        self.push(
            path,
            cost=path.cost + 1,
            place=place,
            stack=rest,
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
        if number < len(self.sentences):
            self.push(
                path,
                cost=path.cost + 1.1,
                place=self.places[number + 1],
                faults=(
                    Fault("extra", number, self.sentences[number], ""),
                    path.faults,
                ),
            )
        elif rest[0] is not STOP:
            self.unfinished(path, number)
        self.push(path, cost=path.cost + 1, stack=(SKIP, rest))
        return True

    def leave_out(self, path: Path, rest: tuple) -> None:
        "Fork where the text has other words for a sentence, or none."
        number = self.number[path.place]
        if id(rest) not in self.following:
            self.following[id(rest)] = self.skip(rest)
        for others, drawn in self.following[id(rest)]:
            stack, roles = self.cell((GAP,), others), {**path.roles, **drawn}
            faults = Fault("missing", number, "", ""), path.faults
            self.push(path, stack=stack, roles=roles, faults=faults)
            if number < len(self.sentences):
                fault = Fault("wording", number, self.sentences[number], "")
                self.push(
                    path,
                    cost=path.cost + 0.5,
                    place=self.places[number + 1],
                    stack=stack,
                    roles=roles,
                    faults=(fault, path.faults),
                )

    def skip(self, stack: tuple) -> list[tuple]:
        "What can follow the sentence that begins here: stacks, new roles."
        found, seen, todo = {}, set(), [(stack, {})]
        while todo:
            stack, drawn = todo.pop()
            if id(stack) in seen:
                continue
            seen.add(id(stack))
            part, rest = stack
            if part is GAP:
                found[id(rest)] = rest, drawn
            elif type(part) is Rule:
                cells = (self.cell(o.flat, rest) for o in part.options)
                todo += [(cell, drawn) for cell in cells]
            elif part is not STOP:
                if type(part) is Draw:
                    drawn = {**drawn, part.role: part}
                todo.append((rest, drawn))
        return list(found.values())


def fixed(entity: Entity, form: str) -> str | None:
    "A form of an entity, if it is always the same."
    rule = entity.forms.get(form)
    parts = rule.options[0].flat if rule and len(rule.options) == 1 else ()
    return parts[0] if len(parts) == 1 and type(parts[0]) is str else None


def with_name(fault: Fault, roles: dict) -> Fault:
    "A fault that says who should stand there, not only in which role."
    if fault.expected not in roles:
        return fault
    who = roles[fault.expected]
    known = type(who) is Entity and who.text != fault.found
    return fault._replace(expected=who.text if known else "")


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
