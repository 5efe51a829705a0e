"""Batches for handlers that are classes."""

from .batchable import Batchable, BatchAggregationScenario, BatchWorkerConfig

__all__ = ["BatchAggregationScenario", "BatchWorkerConfig", "Batchable"]
