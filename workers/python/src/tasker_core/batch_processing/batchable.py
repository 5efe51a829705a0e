"""Batches for handlers that are classes."""

from tasker_worker import Batchable, BatchAggregationScenario, BatchWorkerConfig

__all__ = ["BatchAggregationScenario", "BatchWorkerConfig", "Batchable"]
