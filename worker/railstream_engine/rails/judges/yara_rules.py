"""The YARA rules of `injection detection`: what must not reach an interpreter behind the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RULES: Final[Mapping[str, str]] = {
    "code": r"""
rule python_execution
{
    strings:
        $import = /(^|\n)[ \t]*import (os|subprocess|shutil|socket|ctypes|pty|urllib|requests|http)\b/
        $from = /\bfrom (os|subprocess|shutil|socket|ctypes|pty|urllib|requests|http)[\w.]* import\b/
        $dynamic = /\b(__import__|eval|exec|compile)\s*\(/
        $shell = /\b(os\.(system|popen|exec\w*|spawn\w*)|subprocess\.\w+)\s*\(/
    condition:
        any of them
}
""",
    "sqli": r"""
rule sql_injection
{
    strings:
        $tautology = /['"]\s*(or|and)\s+['"]?\w+['"]?\s*=\s*['"]?\w+/ nocase
        $union = /\bunion\s+(all\s+)?select\b/ nocase
        $stacked = /;\s*(drop|delete|truncate|alter|insert|update|create|exec)\s+\w+/ nocase
        $comment = /\b(select|insert|update|delete|drop)\b[^\n]{1,200}(--|\/\*)/ nocase
        $catalog = /\bfrom\s+(pg_\w+|information_schema\.\w+|sqlite_master)/ nocase
        $chars = /\bcha?r\(\d+\)\s*([,+]|\|\|)\s*cha?r\(\d+\)/ nocase
    condition:
        any of them
}
""",
    "template": r"""
rule template_injection
{
    strings:
        $expression = /\{\{[^\n{}]{1,200}\}\}/
        $statement = /\{%[^\n%]{1,200}%\}/
        $interpolation = /\$\{[^\n{}]{1,200}\}/
    condition:
        any of them
}
""",
    "xss": r"""
rule cross_site_scripting
{
    strings:
        $script = /<\s*script\b/ nocase
        $handler = /<\s*\w+[^>\n]{0,200}\bon(error|load|click|mouseover|focus)\s*=/ nocase
        $url = /(href|src)\s*=\s*['"]?\s*javascript:/ nocase
        $markdown_script = /\]\(\s*javascript:/ nocase
        $markdown_image = /!\[[^\n\]]{0,200}\]\([^\n)]{0,200}\?[^\n)]{0,200}\)/
    condition:
        any of them
}
""",
}
