"""The rules of the firewall: from text to the table that the router's data plane asks.

``parse`` reads the rule language, ``classic`` the chains of uWSGI's options, ``policy`` has the
rules of vassals with ``network = tap``. All three give a ``Ruleset``; ``compile_rules`` makes of
it, and of the addresses of the vassals it names, the bytes for ``firewall_load`` (firewall.h).
What is wrong in a text is a ``RuleError``. The language is described in docs/firewall.md.
"""

from donjon.tuntap.rules.compiler import Capacity, Compiled, Names, compile_rules
from donjon.tuntap.rules.model import Ruleset
from donjon.tuntap.rules.parser import parse
from donjon.tuntap.rules.tokens import RuleError

__all__ = ["Capacity", "Compiled", "Names", "RuleError", "Ruleset", "compile_rules", "parse"]
