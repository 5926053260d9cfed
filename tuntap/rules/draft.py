"""A rule while it is being read: each condition once, and none that contradicts another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from donjon.tuntap.rules.addresses import family
from donjon.tuntap.rules.model import Addresses, Rule, Verdict
from donjon.tuntap.rules.tokens import RuleError, Token


@dataclass(slots=True)
class Draft:
    """What was read of a rule so far; ``rule`` is whole when its line ends."""

    rule: Rule
    family_said: str = ""
    protocol_said: str = ""
    decided: bool = False
    counts: bool = False

    def say(self, token: Token, **conditions: object) -> None:
        """Take conditions that ``token`` names. Raises RuleError for what was said before."""
        for name, value in conditions.items():
            if getattr(self.rule, name) != Rule.__dataclass_fields__[name].default:
                raise RuleError(f"a second {token.text!r} in one rule", origin=token.origin)
            self.rule = replace(self.rule, **{name: value})  # type: ignore[arg-type]

    def say_family(self, number: int, token: Token) -> None:
        """Take a family that ``token`` implies. Raises RuleError where it is another already."""
        if self.rule.family not in {0, number}:
            raise RuleError(
                f"{token.text!r} after {self.family_said!r}: no packet is of both families",
                origin=token.origin,
            )
        self.rule = replace(self.rule, family=number)
        self.family_said = self.family_said or token.text

    def say_protocols(self, numbers: tuple[int, ...], token: Token) -> None:
        """Take protocols that ``token`` implies. Raises RuleError where others were said."""
        if self.rule.protocols not in {(), numbers}:
            raise RuleError(
                f"{token.text!r} after {self.protocol_said!r}: no packet is of both protocols",
                origin=token.origin,
            )
        self.rule = replace(self.rule, protocols=numbers)
        self.protocol_said = self.protocol_said or token.text

    def say_verdict(self, verdict: Verdict, token: Token) -> None:
        """Take what is done. Raises RuleError for a second one."""
        if self.decided:
            raise RuleError(f"a second verdict, {token.text!r}", origin=token.origin)
        self.rule = replace(self.rule, verdict=verdict)
        self.decided = True

    def finished(self, end: Token) -> Rule:
        """Return the rule. Raises RuleError where it does nothing, or never can."""
        if not (self.decided or self.rule.log or self.counts):
            raise RuleError(
                "a rule that does nothing",
                origin=end.origin,
                hint="end it with accept, drop, reject, log or counter",
            )
        for addresses in (self.rule.source, self.rule.destination):
            self._check_family(addresses, end)
        return self.rule

    def _check_family(self, addresses: Addresses | None, end: Token) -> None:
        """An address of the other family beside ``ip`` or ``ip6`` is a slip."""
        if addresses is None or self.rule.family == 0:
            return
        if any(family(network) != self.rule.family for network in addresses.networks):
            raise RuleError(
                f"an address of another family than {self.family_said!r} says", origin=end.origin
            )
