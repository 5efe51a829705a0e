"""The handlers of the templates in ``config/templates/samples``.

tasker-ctl dev --templates config/templates/samples \\
    --worker default='PYTHONPATH=workers/python/src python3 workers/python/examples/samples.py'
"""

from __future__ import annotations

import approval_handlers  # noqa: F401
import checkpoint_handlers  # noqa: F401
import csv_handlers  # noqa: F401
import dataset_handlers  # noqa: F401
import diamond_batch_handlers  # noqa: F401
import ecommerce_handlers  # noqa: F401
import method_handlers  # noqa: F401
import pipeline_handlers  # noqa: F401
import refund_handlers  # noqa: F401
import registration_handlers  # noqa: F401
import resumption_handlers  # noqa: F401
import retry_handlers  # noqa: F401
import review_handlers  # noqa: F401

from tasker_worker import run

if __name__ == "__main__":
    run()
