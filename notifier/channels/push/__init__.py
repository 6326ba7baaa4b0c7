"""Phone push: what FCM is told, and how.

In: a Message with PushContent for one device. Out: an Outcome; AddressGone when the token is dead.
`compose` builds the payload, `tokens` keeps the access token, `fcm` makes the call.
"""
