//! `GET /v1/doctor`: where a stored counter differs from the facts.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DoctorReport {
    pub checked: Examined,
    /// The first ones.
    pub differences: Vec<CounterDifference>,
    /// All differences, listed or not.
    pub total: i64,
}

/// How many rows were compared.
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
    /// The step's name, or its id when it has no row.
    pub step: Option<String>,
    pub stored: Option<String>,
    pub task_uuid: Uuid,
    pub what: String,
}
