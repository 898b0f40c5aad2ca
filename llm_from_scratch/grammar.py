"""Grammars that tell stories, and find out how a story was told.

Knows rules, roles and sentences. Knows nothing of plots, children or
models: what is told stands in a data file such as `story_world.txt`.

A line `name: option | option` is a rule, lines that begin with a space
continue it, `#` begins a comment. In an option, `{name}` uses a rule,
`{a|b}` chooses on the spot, `{Hero=kid}` gives the role Hero to one of
the entities that the rule kid lists, without writing it, `{Hero}` writes
it and `{Hero.he}` a form of it, which the rule `~girl.he` gives to the
entities marked `~girl`; `{#mood=sad}` makes something true, and `3* `
before an option makes it three times as likely. *a* becomes *an* before a
vowel, and sentences get their capital. `hold: Thing Look 12` keeps every
twelfth pair of these two roles out of all stories.
"""

import math
import random
import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple


@dataclass(eq=False, slots=True)
class Rule:
    "Draws one of its options each time that it is used."

    name: str  # "" for a choice on the spot
    options: list = field(default_factory=list)  # of `Option`
    bounds: list = field(default_factory=list)  # probabilities, summed up
    starts: dict | None = None  # first character → options, when known


@dataclass(eq=False, slots=True)
class Option:
    "One option of a rule: its parts are written one after the other."

    parts: tuple  # of str, Rule, Draw, Mention, Tag and GAP
    log_prob: float = 0.0  # nats
    flat: tuple = ()  # the parts as the search compares them


@dataclass(eq=False, slots=True)
class Entity:
    "A person, a thing or a place that can play a role."

    text: str
    flat: str  # the text as the search compares it
    number: int  # its place in the rule that lists it
    forms: dict  # such as "he" → Rule


@dataclass(eq=False, slots=True)
class Draw:
    "Gives a role to an entity that plays none so far."

    role: str
    entities: tuple  # the candidates


@dataclass(eq=False, slots=True)
class Mention:
    "Writes the entity in a role, or one of its forms."

    role: str
    form: str  # "" is its text


@dataclass(eq=False, slots=True)
class Tag:
    "Makes something true without writing it."

    key: str
    value: str


class Telling(NamedTuple):
    "A story, and how it came about."

    text: str
    log_prob: float  # of the way in which it was told, nats
    roles: dict  # role → Entity
    tags: dict  # key → value
    plot: str  # the rule that the first rule chose


GAP, STOP = Tag("gap", ""), Tag("stop", "")  # between sentences, at the end
Part = str | Rule | Draw | Mention | Tag
Choose = Callable[[Rule | Draw, dict], Any]

TOKEN = re.compile(r"[{}|]|[^{}|]+")
NAME = re.compile(r"\w+|~\w+\.\w+")
SILENT = re.compile(r"(\{#?\w+=[^{}]*\})\s+")  # writes nothing, and a space
LAST = re.compile(r"\s+((?:\{#\w+=[^{}]*\}\s*)+)(?=[|}]|$)")
# before these *a* becomes *an*; one, unit, usual, ewe begin with a consonant
A = re.compile(r"\b([Aa]) (?=[ai]|e(?!u|we)|o(?!nc?e\b)|u(?!ni|s[eu]))")
AN = re.compile(r"\b([Aa])n (?=\S)")
INITIAL = re.compile(r'(?:^|[.!?] |\." |(?:^|(?<= ))")[a-z]')
CLOSED = re.compile(r'[.!?]"?$')
# between two sentences: in a story, and in an option, where a name may follow
SENTENCE = re.compile(r'(?<=[.!?]) (?=["A-Z])|(?<=[.!?]") (?=["A-Z])')
INSIDE = re.compile(r'(?<=[.!?]) (?=\S)|(?<=\.") (?=\S)|(?<=[!?]") (?=["A-Z])')


def realise(text: str) -> str:
    "Write *an* before vowels, and capitals where sentences begin."
    return INITIAL.sub(lambda match: match[0].upper(), A.sub(r"\1n ", text))


def flatten(text: str) -> str:
    "A text as the search compares it: no capitals, no *an*."
    return AN.sub(r"\1 ", text).lower()


def read_rules(
    text: str,  # a grammar
) -> dict[str, list[list]]:  # rule → options → strings, options for braces
    "Read the rules of a grammar. Raises `ValueError` with the bad line."
    if not isinstance(text, str):
        raise TypeError(f"{text=!r:.40} must be the text of a grammar")
    rules: dict[str, Any] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line[0] == "#":
            continue
        if not line[0].isspace():
            name, colon, line = line.partition(":")
            if not colon or name in rules or not NAME.fullmatch(name):
                problem = "a second time" if name in rules else "no name and :"
                raise ValueError(f"line {number}: {name[:40]!r} is {problem}")
            rules[name] = ""
        if name not in rules:
            raise ValueError(f"line {number}: continues no rule")
        if line.count("{") != line.count("}"):
            raise ValueError(f"line {number}: braces do not match")
        rules[name] = f"{rules[name]} {line.strip()}".strip()
    for name, body in rules.items():
        body = SILENT.sub(r"\1", LAST.sub(r"\1", body))
        options = nested(iter(TOKEN.findall(body)))
        rules[name] = [trimmed(option) for option in options]
    return rules


def read_hold(
    options: list[list] | None,  # of the rule `hold`
) -> tuple[list[str], int]:  # two roles, and which of their pairs
    "Read which pairs are kept out of all stories."
    if options is None:
        return ["", ""], 1
    words = "".join(map(str, options[0])).split()
    if len(words) != 3 or not words[2].isdecimal() or int(words[2]) < 2:
        raise ValueError(
            f"hold: {' '.join(words)[:40]!r} must be two roles and a number "
            "from 2 on, as in: hold: Thing Look 12"
        )
    return words[:2], int(words[2])


def nested(tokens: Iterator[str]) -> list[list]:
    "The options up to the closing brace, with those in inner braces."
    options: list[list] = [[]]
    for token in tokens:
        if token == "}":
            break
        if token == "|":
            options.append([])
        else:
            options[-1].append(nested(tokens) if token == "{" else token)
    return options


def trimmed(option: list) -> list:
    "An option of a rule without the spaces around it."
    if option and isinstance(option[0], str):
        option[0] = option[0].lstrip()
    if option and isinstance(option[-1], str):
        option[-1] = option[-1].rstrip()
    return [part for part in option if part]


class Grammar:
    "The rules of a world: tells stories, and finds out how they were told."

    def __init__(
        self,
        text: str,  # a grammar, as the top of this file describes it
        *,
        held_out: bool = False,  # only the pairs that are kept out otherwise
    ):
        """Compile a grammar and check that every derivation ends well.

        Raises `ValueError` with the line or the rule at fault.
        """
        self.raw = read_rules(text)
        self.pair, self.every = read_hold(self.raw.pop("hold", None))
        self.held_out = held_out
        self.rules = {name: Rule(name) for name in self.raw}
        self.compiled: list[Rule] = []
        self.kinds: dict[str, tuple] = {}  # rule → the entities it lists
        self.roles: dict[str, dict] = {}  # role → who may play it
        if "story" not in self.rules:
            raise ValueError("the grammar has no rule 'story' to begin with")
        for name, options in self.raw.items():
            self._fill(self.rules[name], options)
        options = [o for rule in self.compiled for o in rule.options]
        for option in options:
            option.parts = tuple(self._with_gaps(option.parts))
            option.flat = tuple(
                flatten(x) if type(x) is str else x for x in option.parts
            )
        self.start = self.rules["story"]
        if held_out:
            self._keep(lambda plot: set(self.pair) <= drawn_by(plot))
        Check(self).story()

    def _fill(self, rule: Rule, options: list[list]) -> Rule:
        "Compile the options of a rule, and their probabilities."
        weights = []
        for option in options:
            weight = option and re.match(r"(\d+)\* ", str(option[0]))
            if weight:
                option = [option[0][weight.end() :], *option[1:]]
            weights.append(int(weight[1]) if weight else 1)
            if not weights[-1]:
                raise ValueError(f"rule {rule.name!r}: 0* makes no sense")
            parts = (self._part(part, rule.name) for part in option)
            rule.options.append(Option(tuple(part for part in parts if part)))
        self.compiled.append(rule)
        return weigh(rule, weights)

    def _part(self, part: str | list, where: str) -> Part:
        "Compile literal text, or what stands in a pair of braces."
        if isinstance(part, str):
            return part.split(" ~")[0]
        if len(part) > 1 or len(part[0]) != 1 or type(part[0][0]) is list:
            return self._fill(Rule(""), part)
        name, equals, value = part[0][0].partition("=")
        if name[:1] == "#":
            return Tag(name[1:], value)
        if equals and name:
            kinds = [self._kind(x, where) for x in value.split("+")]
            entities = tuple(e for kind in kinds for e in kind)
            self.roles.setdefault(name, {}).update(dict.fromkeys(entities))
            return Draw(name, entities)
        if name[:1].isupper():
            return Mention(*name.partition(".")[::2])
        return self._rule(name, where)

    def _rule(self, name: str, where: str) -> Rule:
        "The rule with that name."
        if name not in self.rules:
            raise ValueError(f"rule {where!r} uses {name!r}, which is no rule")
        return self.rules[name]

    def _kind(self, name: str, where: str) -> tuple:
        "The entities that a rule lists."
        self._rule(name, where)
        if name not in self.kinds:
            entities = []
            for number, option in enumerate(self.raw[name]):
                if len(option) != 1 or isinstance(option[0], list):
                    raise ValueError(
                        f"rule {name!r} fills a role, so each of its options "
                        "must be a plain text"
                    )
                text, *classes = option[0].split(" ~")
                forms = {
                    rule.partition(".")[2]: self.rules[rule]
                    for rule in self.rules
                    if rule[0] == "~" and rule[1:].split(".")[0] in classes
                }
                entities.append(Entity(text, flatten(text), number, forms))
            self.kinds[name] = tuple(entities)
        return self.kinds[name]

    def _with_gaps(self, parts: tuple) -> Iterator[Part]:
        "The same parts, with GAP where one sentence follows another."
        before = None
        for part in parts:
            if type(part) is not str:
                yield part
            else:
                if part[0] == " " and closes(before):
                    yield GAP
                    part = part[1:]
                ends = part.endswith(" ") and CLOSED.search(part[:-1])
                texts = INSIDE.split(part[:-1] if ends else part)
                for number, text in enumerate(texts):
                    yield from (GAP, text) if number else (text,)
                if ends:
                    yield GAP
            before = before if type(part) in (Tag, Draw) else part

    def _keep(self, wanted: Callable[[Rule], bool]) -> None:
        "Tell only the plots that are wanted."
        kept = [o for o in self.start.options if wanted(o.parts[0])]
        if not kept:
            raise ValueError("no plot of this grammar has what is asked for")
        odds = [math.exp(option.log_prob) for option in kept]
        self.start = weigh(Rule("story", kept), odds)

    def allowed(self, draw: Draw, entity: Entity, roles: dict) -> bool:
        "May this entity get the role, after those that have one?"
        if entity in roles.values():
            return False
        first, second = self.pair
        if draw.role != second or first not in roles:
            return True
        held = (entity.number + roles[first].number) % self.every == 0
        return held == self.held_out

    def tell(
        self,
        choose: Choose,  # rule or draw, roles → option, or entity
    ) -> Telling:
        "Tell the story that comes of these choices."
        words: list[str] = []
        roles: dict[str, Entity] = {}
        tags: dict[str, str] = {}
        plot = ""

        def write(parts: tuple) -> float:
            nonlocal plot
            total = 0.0
            for part in parts:
                kind = type(part)
                if kind is str:
                    words.append(part)
                elif kind is Rule:
                    plot = plot or (part is not self.start and part.name)
                    option = choose(part, roles)
                    total += option.log_prob + write(option.parts)
                elif kind is Mention:
                    entity = roles[part.role]
                    if part.form:
                        total += write((entity.forms[part.form],))
                    else:
                        words.append(entity.text)
                elif part is GAP:
                    words.append(" ")
                elif kind is Draw:
                    entity = choose(part, roles)
                    total += self.draw_log_prob(part, entity, roles)
                    roles[part.role] = entity
                else:
                    tags[part.key] = part.value
            return total

        log_prob = write((self.start,))
        return Telling(realise("".join(words)), log_prob, roles, tags, plot)

    def draw_log_prob(self, draw: Draw, entity: Entity, roles: dict) -> float:
        "The log-probability, in nats, that this entity gets the role."
        if not self.allowed(draw, entity, roles):
            return -math.inf
        if draw.role == self.pair[1]:
            able = sum(self.allowed(draw, e, roles) for e in draw.entities)
        else:
            playing = set(roles.values())
            able = sum(e not in playing for e in draw.entities)
        return -math.log(able)

    def by_chance(
        self,
        rng: random.Random,  # supplies the chance
    ) -> Choose:  # what `tell` asks
        "Choose at random, with the grammar's probabilities."

        def choose(part: Rule | Draw, roles: dict) -> Option | Entity:
            if type(part) is Rule:
                return part.options[bisect(part.bounds, rng.random())]
            while True:  # as likely as from a list of those allowed
                at = int(rng.random() * len(part.entities))
                if self.allowed(part, part.entities[at], roles):
                    return part.entities[at]

        return choose

    def retell(
        self,
        options: Iterable[Option],  # in the order in which they were taken
        roles: dict,  # role → Entity
    ) -> Telling:  # the story
        "Tell a story once more, with these choices."
        following = iter(options)

        def choose(part: Rule | Draw, _: dict) -> Option | Entity:
            if type(part) is Rule:
                return next(following)
            return roles[part.role]

        return self.tell(choose)


class Check:
    "Follows all derivations at once, looking for one that would fail."

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        self.known: dict[tuple, set | None] = {}
        self.telling: dict[int, set | None] = {}  # id of a rule → `options`

    def story(self) -> None:
        "Look at all stories. Raises `ValueError` with the rule at fault."
        for end in self.rule(self.grammar.start, frozenset(), "story"):
            for draw, written in end:
                if not written:
                    raise ValueError(
                        f"a story can end without writing {draw.role}, so "
                        "nobody could tell who had that role"
                    )

    def options(self, rule: Rule, where: str) -> set[tuple]:
        "The options of a rule: only the parts that have to do with roles."
        if id(rule) not in self.telling:
            self.telling[id(rule)] = None
            self.telling[id(rule)] = {
                tuple(x for x in option.parts if self.matters(x, where))
                for option in rule.options
            }
        if self.telling[id(rule)] is None:
            raise ValueError(f"rule {where!r} uses itself, without end")
        return self.telling[id(rule)]

    def matters(self, part: Part, where: str) -> bool:
        "Does this part have to do with roles?"
        if type(part) is Rule:
            return self.options(part, part.name or where) != {()}
        return type(part) in (Draw, Mention)

    def rule(self, rule: Rule, drawn: frozenset, where: str) -> set:
        "Behind a rule: sets of roles that are filled, each with `written`."
        where, key = rule.name or where, (id(rule), drawn)
        if key not in self.known:
            self.known[key] = None
            ends: set[frozenset] = set()
            for option in self.options(rule, where):
                states = {drawn}
                for part in option:
                    new = (self.part(part, old, where) for old in states)
                    states = set().union(*new)
                ends |= states
            self.known[key] = ends
        if self.known[key] is None:
            raise ValueError(f"rule {where!r} uses itself, without end")
        return self.known[key]

    def part(self, part: Part, drawn: frozenset, where: str) -> set:
        "The same for what stands in an option."
        if type(part) is Rule:
            return self.rule(part, drawn, where)
        if type(part) is Draw:
            self.draw(part, {draw for draw, _ in drawn}, where)
            return {drawn | {(part, False)}}
        if type(part) is not Mention:
            return {drawn}
        found = [x for x in drawn if x[0].role == part.role]
        if not found:
            raise ValueError(
                f"rule {where!r} writes {part.role}, but nobody has that role"
            )
        written = drawn - {*found} | {(found[0][0], True)}
        if not part.form:
            return {written}
        able = found[0][0].entities
        for entity in able:
            if part.form not in entity.forms:
                raise ValueError(
                    f"rule {where!r} writes {part.role}.{part.form}, but "
                    f"{entity.text!r} has no such form"
                )
        rules = {entity.forms[part.form] for entity in able}
        return set().union(*(self.rule(x, written, where) for x in rules))

    def draw(self, draw: Draw, drawn: set[Draw], where: str) -> None:
        "Is somebody left for this role, whoever has the others?"
        if any(x.role == draw.role for x in drawn):
            raise ValueError(f"rule {where!r} fills {draw.role} twice")
        able, grammar = set(draw.entities), self.grammar
        rivals = [x for x in drawn if able & set(x.entities)]
        enough = len(able) > len(rivals)
        first = [x for x in drawn if x.role == grammar.pair[0]]
        if first and draw.role == grammar.pair[1]:
            enough = enough and all(
                any(grammar.allowed(draw, x, {first[0].role: y}) for x in able)
                for y in first[0].entities
            )
        if not enough:
            raise ValueError(
                f"rule {where!r} gives {draw.role} to one of {len(able)}, "
                "but all of them can be taken or kept out"
            )


def weigh(rule: Rule, weights: list[float]) -> Rule:
    "Make the options of a rule as likely as these weights say."
    total = sum(weights)
    rule.bounds = [x / total for x in accumulate(weights)][:-1]
    for option, weight in zip(rule.options, weights, strict=True):
        option.log_prob = math.log(weight / total)
    return rule


def drawn_by(plot: Part) -> set[str]:
    "The roles that a rule gives when it begins."
    options = plot.options if isinstance(plot, Rule) else []
    return {x.role for o in options for x in o.parts if type(x) is Draw}


def closes(part: Part | None) -> bool:
    "Does this part always end a sentence?"
    if type(part) is str:
        return CLOSED.search(part) is not None
    if type(part) is not Rule or not part.options:
        return False
    for option in part.options:
        told = [x for x in option.parts if type(x) not in (Tag, Draw)]
        if not told or not closes(told[-1]):
            return False
    return True
