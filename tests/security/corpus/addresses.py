"""Where a subscription's endpoint must never lead, in every notation that some parser or resolver reads."""

# ruff: noqa: E501  (what attackers send is not ours to fold)
from __future__ import annotations

#: Addresses of our own network, of no network, or of a cloud's inside, as a resolver answers them.
INSIDE = (
    # this machine
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::",
    # private, link-local, carrier-grade NAT
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.0.1", "100.64.0.1", "100.127.255.255",
    "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1",
    # metadata of clouds (AWS, GCP, Azure; Azure's wire server; Alibaba; Oracle; AWS by IPv6)
    "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254",
    # for protocols, examples, benchmarks, many, nobody
    "192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "ff02::1", "ff0e::1", "2001:10::1",
    # an IPv4 address inside an IPv6 one: mapped, compatible, translated, 6to4, NAT64 (well-known and local), Teredo, ISATAP
    "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::10.0.0.1", "::a9fe:a9fe",
    "::ffff:0:127.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:101::", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::7f00:1", "64:ff9b:1:ffff::a9fe:a9fe",
    "2001:0:808:808::80ff:fffe",
    "2001:4860::5efe:7f00:1", "2001:4860::200:5efe:7f00:1", "fe80::5efe:a00:1",
)  # fmt: skip

#: Addresses of the public internet, in the forms in which they may come.
OUTSIDE = (
    "8.8.8.8", "1.1.1.1", "142.250.74.106", "2001:4860:4860::8888", "2606:4700::6810:84e5", "2a00:1450:4001:82b::200a",
    "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8",
)  # fmt: skip

_HOST = "fcm.googleapis.com"

#: Endpoints that no subscription may have, though a parser or another could read a push service in them.
ENDPOINTS = (
    # an address, in numbers of any base and length
    "https://127.0.0.1/x", "https://2130706433/x", "https://017700000001/x", "https://0x7f000001/x", "https://0x7F.1/x",
    "https://0177.0.0.1/x", "https://127.1/x", "https://127.0.1/x", "https://0/x", "https://0.0.0.0/x",
    "https://127.0.0.1./x", "https://00000177.0.0.1/x", "https://4294967297/x", "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/x", "https://0xa9fea9fe/x", "https://10.1.2.3/x", "https://100.64.0.1/x", "https://192.168.1.1/x",
    # the same in IPv6, with and without a zone
    "https://[::1]/x", "https://[::]/x", "https://[::ffff:127.0.0.1]/x", "https://[::127.0.0.1]/x", "https://[fe80::1%25eth0]/x",
    "https://[fd00:ec2::254]/x", "https://[64:ff9b::7f00:1]/x", "https://[2002:7f00:1::]/x", "https://[0:0:0:0:0:ffff:7f00:1]/x",
    # names of this machine and of the inside
    "https://localhost/x", "https://localhost./x", "https://LOCALHOST/x", "https://localhost.localdomain/x",
    "https://metadata.google.internal/x", "https://metadata/x", "https://kubernetes.default.svc/x", "https://postgres/x",
    "https://127.0.0.1.nip.io/x", "https://fcm.googleapis.com.127.0.0.1.nip.io/x",
    # who is the host, and who the user?
    f"https://{_HOST}@127.0.0.1/x", f"https://{_HOST}:443@127.0.0.1/x", f"https://user:pw@{_HOST}/x", f"https://@{_HOST}/x",
    f"https://127.0.0.1#@{_HOST}/x", f"https://127.0.0.1?@{_HOST}/x", f"https://127.0.0.1\\@{_HOST}/x", f"https://{_HOST}\\@127.0.0.1/x",
    f"https://127.0.0.1%2f@{_HOST}/x", f"https://127.0.0.1 &@{_HOST}# @127.0.0.1/x", f"https://{_HOST}%00.evil.example/x",
    f"https://{_HOST}%2eevil.example/x", f"https:///{_HOST}/x", f"https:{_HOST}/x", f"https:/{_HOST}/x", f"https:\\\\{_HOST}/x",
    # dots, dashes and letters that are none, or are too many
    f"https://{_HOST}./x", f"https://.{_HOST}/x", "https://fcm..googleapis.com/x", "https://fcm。googleapis.com/x",
    "https://fcm．googleapis.com/x", "https://fcm｡googleapis.com/x", "https://fcm․googleapis.com/x", "https://ⓕⓒⓜ.googleapis.com/x",
    "https://fcm.gooɡleapis.com/x", "https://ｆｃｍ.googleapis.com/x", "https://fcm.googleapis.com\u00ad/x", "https://fcm.googleapis.com\u200b/x",
    "https://①②⑦.⓪.⓪.①/x", "https://１２７.0.0.1/x", "https://fcm.googleapis.com／x", "https://xn--fcm-.googleapis.com/x",
    # neighbours of a name
    f"https://{_HOST}.evil.example/x", f"https://evil{_HOST}/x", f"https://evil-{_HOST}/x", "https://googleapis.com/x",
    "https://push.apple.com/x", "https://evilpush.apple.com/x", "https://web.push.apple.com.evil.example/x",
    # another port or scheme
    f"https://{_HOST}:22/x", f"https://{_HOST}:8443/x", f"https://{_HOST}:0/x", f"https://{_HOST}:65979/x", f"https://{_HOST}:+443/x",
    f"https://{_HOST}:443:22/x", f"https://{_HOST}:٤٤٣/x", f"http://{_HOST}/x", f"http://{_HOST}:443/x", f"//{_HOST}/x", f"{_HOST}/x",
    f"ftp://{_HOST}/x", "file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:11211/stats", f"ws://{_HOST}/x",
    "unix:///run/redis.sock", "data:text/plain,x", "javascript:alert(1)", f"jar:https://{_HOST}/x!/", f"url:https://{_HOST}/x",
    # a request in a request
    f"https://{_HOST}/x HTTP/1.1\r\nX-Evil: 1\r\n\r\n", f"https://{_HOST}/x\r\nHost: evil.example", f"https://{_HOST}/x\nX: 1",
    f"https://{_HOST}/\t", f"https://{_HOST}/\x00", f" https://{_HOST}/x", f"https://{_HOST}/x ", f"https://{_HOST}/#x", f"\ufeffhttps://{_HOST}/x",
)  # fmt: skip
