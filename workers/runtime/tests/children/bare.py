"""Speaks the protocol without an SDK, to break it in ways that an SDK does not: the callable is the outcome that it writes."""

import json
import os

os.write(4, b'{"ready":{"protocol":1,"sdk":"bare","version":"0","handlers":[]}}\n')
for text in os.fdopen(3):
    message = json.loads(text)
    line = '{"id":%d,"outcome":%s}\n' % (message["id"], message["step"]["handler"]["callable"])
    os.write(4, line.encode())
