"""Desktop notifications by Web Push: to the push service that the browser named, and nowhere else.

In: a Message with DesktopContent for one subscription. Out: an Outcome; AddressGone when it has ended.
The endpoint is a URL that a stranger gave us, so `endpoint` decides whether we may go there, at intake and
again when the connection is made. `encryption` (RFC 8291) and `vapid` (RFC 8292) are pure.
"""
