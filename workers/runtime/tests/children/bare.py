"""Speaks the protocol without an SDK, to break it in ways that an SDK does not: the callable is the outcome that it writes."""

import json
import os

os.write(4, b'{"ready":{"protocol":1,"sdk":"bare","version":"0","handlers":[]}}\n')
for text in os.fdopen(3):
    message = json.loads(text)
    callable = message["step"]["handler"]["callable"]
    # What no step can hold, or what is no text.
    outcome = (
        callable.replace("<20 MB>", "x" * 20_000_000)
        .replace("<pid>", str(os.getpid()))
        .encode()
        .replace(b"<byte>", b"\xe9")
    )
    os.write(4, b'{"id":%d,"outcome":%s}\n' % (message["id"], outcome))
