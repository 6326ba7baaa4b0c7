"""Which refusals of a relay are about us: a quota of ours that is used up, a rate of ours that is too high.

Relays say so with 4xx and with 5xx, and mostly in words alone. The words come from Gmail ("SMTP errors and
codes"), Exchange Online ("NDRs in Exchange Online"), SES ("SMTP response codes"), Postfix (smtpd), cPanel, Plesk,
SendGrid, mailcow, GoDaddy, IONOS, Mailtrap. A limit of the recipient's mailbox is not ours, though its words are
much alike, and neither is the size of a mail.
"""

from __future__ import annotations

import re

#: What the words below are about if it says so: one mailbox, a list, a greylist, or the form of a mail.
_NOT_OURS = (
    r"receiv(?:e|ing)\b|recipient(?:'s| has| is| mailbox| thread)\b|tr(?:ied|ying) to (?:reach|contact)"
    r"|mailbox (?:is|has|size|quota|full|over)\b|\b(?:in|on) (?:the |your )?(?:mailbox|inbox|server)\b"
    r"|\b(?:account|user) (?:has|is|holds) (?:too many|over)\b|\bthis (?:list|group)\b|\bgr[ae]y-?list"
    r"|\b(?:size|storage|disk|length|lines?|content)\b|mail data"
)
#: RFC 3463: X.1 is about the address; 5.3.4, 5.5 and 5.6 are about the mail. Nothing outweighs these.
_NEVER_OURS = r"(?![245]\.1\.\d|5\.(?:3\.4|[56]\.\d))"
#: RFC 3463 X.2: the status of a mailbox. Only words that can mean nothing but us outweigh it.
_MAILBOX_CODE = r"(?![245]\.2\.\d)"
#: A refusal for good that only names a time must say that it is about mail, or about us: there are quotas of all kinds.
_OF_MAIL = r"(?=4\.|.*\b(?:e?-?mails?|messages?|sen[dt]\w*|you\w*|domain)\b)"

_PEAK = r"\bpeak smtp relay"
_NOT_A_RATE = r"(?!rate|size|connections?|sessions?)"
_OUR_QUOTA = (
    rf"\b(?:send(?:ing)?|sender|submission|outgoing|outbound|relay|smtp)(?: {_NOT_A_RATE}[\w-]+){{0,4}}"
    rf" {_NOT_A_RATE}(?:quota|limit)\b"
    r"|submissionquotaexceeded|\blimit on the number of [\w ]{0,30}(?:messages|e?-?mails)\b"
    r"|\bcredits? exceeded|\b(?:not enough|insufficient|out of) credits?\b"
    r"|\be?-?mail limit (?:is |has been |was )?(?:reached|exceeded)|\bmessage count quota"
    r"|\byou(?:r account)?(?: have|'ve| has)(?: already| been)? (?:exceeded|reached)[\w' ]{0,40} (?:quota|limit)\b"
    r"|\bunusual sending activity"
)
#: Exchange Online: the day's limit of recipients, of the account and of the tenant.
_QUOTA_CODE = r"5\.(?:1\.90|7\.23[236])\b"
_BY_TIME = (
    r"\bdaily (?:[\w-]+ ){0,4}(?:quota|limit)\b"
    r"|(?:limit|exceed|max|only|quota).{0,60}\b(?:(?:per|an?|each) (?:hour|day|month)|hourly|monthly|24[- ]?hours?)\b"
    r"|\b(?:hour(?:ly)?|monthly|24[- ]?hours?) (?:[\w-]+ ){0,3}(?:limit|quota)\b"
)

#: RFC 3463 X.4.5: congestion; Exchange Online's 4.7.500: too fast.
_RATE_CODE = r"[45]\.(?:4\.5|7\.500)\b"
_RATE = (
    r"\brate[- ]?limit|throttl|\b(?:sending|submission|message|sender|connection) rate\b|\brate overlimit"
    r"|\bfrequency limit"
    r"|\btoo much mail\b|\btoo many (?:(?:concurrent|simultaneous|open|new|active|smtp|tls|client) ){0,3}"
    r"(?:connections?|sessions?|messages|e?-?mails|recipients|requests)\b"
    r"|\bconnections? (?:(?!time)[\w-]+ ){0,4}(?:limit|exceed)|\b(?:limit|maximum number) [\w ]{0,20}connections\b"
    r"|\btoo (?:quickly|fast|frequent(?:ly)?)\b|\bslow down\b|\btry again slower\b"
    r"|(?:limit|exceed|max|only|too many).{0,60}\bper (?:\d+ )?(?:second|minute)s?\b"
)

#: A quota of ours, of an hour or of a day. Anchored: each is looked for once, however long the reply is.
QUOTA = (
    rf"(?is)\A(?:{_QUOTA_CODE}|{_NEVER_OURS}(?!.*(?:{_NOT_OURS}|{_PEAK}))"
    rf"(?:.*?(?:{_OUR_QUOTA})|{_MAILBOX_CODE}{_OF_MAIL}.*?(?:{_BY_TIME})))"
)
#: A rate of ours, of mails or of connections.
RATE = rf"(?is)\A{_NEVER_OURS}(?!.*(?:{_NOT_OURS}))(?:{_RATE_CODE}|.*?(?:{_PEAK})|{_MAILBOX_CODE}.*?(?:{_RATE}))"

#: More of a reply says nothing new, and costs time.
_LONGEST = 1000
_FOLD = re.compile(r"\s*\n\s*(?:[245]\.\d{1,3}\.\d{1,3}\b\s*)?", re.ASCII)


#: Replies repeat addresses and links, which may be made of any words: `<rate-limit@shop.example>: user unknown`.
_NAMES = re.compile(r"<[^<>]*>|[^\s<>]+@[^\s<>]+|https?://\S+")


def one_line(text: str) -> str:
    """A reply of several lines as one, without addresses and links.

    Gmail writes its enhanced code (RFC 2034) before each line.
    """
    return _NAMES.sub(" ", _FOLD.sub(" ", text[:_LONGEST])).strip()
