"""The rule language: text to rules. The grammar stands in docs/firewall.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from donjon.tuntap.rules import values
from donjon.tuntap.rules.cursor import Cursor, unknown
from donjon.tuntap.rules.draft import Draft
from donjon.tuntap.rules.model import Direction, Rule, Ruleset, Verdict
from donjon.tuntap.rules.names import (
    DIRECTIONS,
    ICMP,
    ICMP_TYPES,
    ICMPV6,
    ICMPV6_TYPES,
    PROTOCOLS,
    TCP,
    UDP,
    VERDICTS,
)
from donjon.tuntap.rules.tokens import Kind, RuleError, Token, expected, tokens

MAX_RULES = 4096
MAX_PREFIX = 64
"""Characters of what ``log prefix`` says."""

Clause = Callable[[Cursor, values.Sets, Draft, Token], None]


def parse(text: str, source: str) -> Ruleset:
    """Return the rules of a text. Raises RuleError: one line with file:line, token, expectation.

    ``source`` is the file's path as the user wrote it.
    """
    cursor = Cursor(tokens(text, source))
    sets = values.Sets()
    rules: list[Rule] = []
    policy: dict[Direction, Verdict] = {}
    while not cursor.is_done():
        if not cursor.at_end_of_line():
            _statement(cursor, sets, rules, policy)
        cursor.end_line()
    return Ruleset(tuple(rules), Ruleset().policy | policy)


def _statement(
    cursor: Cursor,
    sets: values.Sets,
    rules: list[Rule],
    policy: dict[Direction, Verdict],
) -> None:
    first = cursor.word("'in', 'out', 'set' or 'policy'")
    if first.text in DIRECTIONS:
        if len(rules) == MAX_RULES:
            raise RuleError(f"more than {MAX_RULES} rules", origin=first.origin)
        rules.append(_rule(cursor, sets, first))
    elif first.text == "set":
        _set(cursor, sets)
    elif first.text == "policy":
        _policy(cursor, policy)
    else:
        raise unknown(first, [*DIRECTIONS, "set", "policy"], "'in', 'out', 'set' or 'policy'")


def _policy(cursor: Cursor, policy: dict[Direction, Verdict]) -> None:
    before = cursor.peek()
    direction = cursor.one_of(DIRECTIONS, "'in' or 'out'")
    if direction in policy:
        raise RuleError(f"a second policy of {before.text!r}", origin=before.origin)
    policy[direction] = cursor.one_of(VERDICTS, "accept, drop or reject")


def _set(cursor: Cursor, sets: values.Sets) -> None:
    name = cursor.word("the name of a set")
    if cursor.peek().text != "{":
        raise expected("'{'", cursor.peek())
    holds_ports = values.is_ports(cursor.peek(1))
    sets.add(name, values.ports(cursor, sets) if holds_ports else values.addresses(cursor, sets))


def _rule(cursor: Cursor, sets: values.Sets, first: Token) -> Rule:
    direction = DIRECTIONS[first.text]
    start = cursor.mark()
    draft = Draft(Rule(direction, Verdict.CONTINUE, first.origin, ""))
    while not cursor.at_end_of_line():
        if draft.decided:
            raise expected("the end of the line after the verdict", cursor.peek())
        _clause(cursor, sets, draft)
    said = [first, *cursor.since(start)]
    text = " ".join(f'"{t.text}"' if t.kind is Kind.STRING else t.text for t in said)
    return replace(draft.finished(first), text=text)


def _clause(cursor: Cursor, sets: values.Sets, draft: Draft) -> None:
    token = cursor.word("a condition or a verdict")
    if token.text in VERDICTS:
        draft.say_verdict(VERDICTS[token.text], token)
    elif token.text in _CLAUSES:
        _CLAUSES[token.text](cursor, sets, draft, token)
    else:
        raise unknown(token, [*_CLAUSES, *VERDICTS], "a condition or a verdict")


def _address(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:
    end = "source" if token.text == "saddr" else "destination"
    draft.say(token, **{end: values.addresses(cursor, sets)})


def _ip(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:
    number, header = (4, "protocol") if token.text == "ip" else (6, "nexthdr")
    draft.say_family(number, token)
    what = cursor.word(f"'saddr', 'daddr' or {header!r}")
    if what.text in {"saddr", "daddr"}:
        _address(cursor, sets, draft, what)
    elif what.text == header:
        draft.say_protocols(values.protocols(cursor, PROTOCOLS), what)
    else:
        raise unknown(what, ["saddr", "daddr", header], f"'saddr', 'daddr' or {header!r}")


def _meta(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:  # noqa: ARG001
    what = cursor.word("'l4proto'")
    if what.text != "l4proto":
        raise expected("'l4proto'", what)
    draft.say_protocols(values.protocols(cursor, PROTOCOLS), what)


def _transport(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:
    draft.say_protocols((TCP if token.text == "tcp" else UDP,), token)
    what = cursor.word("'sport' or 'dport'")
    if what.text not in {"sport", "dport"}:
        raise unknown(what, ["sport", "dport"], "'sport' or 'dport'")
    end = "source_ports" if what.text == "sport" else "destination_ports"
    draft.say(what, **{end: values.ports(cursor, sets)})


def _icmp(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:  # noqa: ARG001
    older = token.text == "icmp"
    draft.say_family(4 if older else 6, token)
    draft.say_protocols((ICMP if older else ICMPV6,), token)
    what = cursor.word("'type'")
    if what.text != "type":
        raise expected("'type'", what)
    types = values.numbers(cursor, ICMP_TYPES if older else ICMPV6_TYPES, "an ICMP type")
    draft.say(what, icmp_types=types)


def _state(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:  # noqa: ARG001
    what = cursor.word("'state'")
    if what.text != "state":
        raise expected("'state'", what)
    draft.say(what, states=values.states(cursor))


def _limit(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:  # noqa: ARG001
    draft.say(token, limit=values.limit(cursor))


def _log(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:  # noqa: ARG001
    draft.say(token, log=True)
    if cursor.took_word("prefix"):
        text = cursor.take()
        if text.kind is not Kind.STRING or not 0 < len(text.text) <= MAX_PREFIX:
            raise expected(f"a string of 1 to {MAX_PREFIX} characters", text)
        draft.say(text, prefix=text.text)


def _counter(cursor: Cursor, sets: values.Sets, draft: Draft, token: Token) -> None:  # noqa: ARG001
    draft.counts = True


_CLAUSES: dict[str, Clause] = {
    "ip": _ip,
    "ip6": _ip,
    "saddr": _address,
    "daddr": _address,
    "meta": _meta,
    "tcp": _transport,
    "udp": _transport,
    "icmp": _icmp,
    "icmpv6": _icmp,
    "ct": _state,
    "limit": _limit,
    "log": _log,
    "counter": _counter,
}
