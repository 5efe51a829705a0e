"""Needs a while until it is ready, and then answers each step. It is slow in the way that its arguments say."""

import json
import os
import sys
import time

how, seconds = sys.argv[1], float(sys.argv[2])
until = time.monotonic() + seconds
while time.monotonic() < until:
    if how == "computes":
        pass
    else:
        time.sleep(0.1)
    if how == "writes":
        print("still importing", flush=True)

os.write(4, b'{"ready":{"protocol":1,"sdk":"slow","version":"0","handlers":[]}}\n')
for text in os.fdopen(3):
    os.write(4, b'{"id":%d,"outcome":{"success":{"result":{}}}}\n' % json.loads(text)["id"])
