//! The response of `GET /v1/doctor`: the stored counters that differ from the rows they count.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DoctorReport {
    pub checked: Examined,
    /// The first differences.
    pub differences: Vec<CounterDifference>,
    /// The sessions of other programs that have held locks on our tables for more than a second.
    pub locks: Vec<String>,
    /// The number of all differences.
    pub total: i64,
    /// The pools without a worker that is known, for which dispatched steps wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unserved_pools: Vec<UnservedPool>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnservedPool {
    pub pool: String,
    /// Dispatched steps that no worker has started.
    pub steps: i64,
    pub why: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Examined {
    pub steps: i64,
    pub tasks: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CounterDifference {
    pub facts: Option<String>,
    /// The step's name, or its id if it has no row.
    pub step: Option<String>,
    pub stored: Option<String>,
    pub task_uuid: Uuid,
    pub what: String,
}
