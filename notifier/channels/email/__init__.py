"""Mail: what a mail looks like on the wire, and who takes it from us.

In: a Message with EmailContent for one address. Out: an Outcome. `compose` builds the MIME bytes, the
same for every provider; `ses` and `smtp` hand them over. Nothing from a template or a caller ever
becomes a header of its own.
"""
